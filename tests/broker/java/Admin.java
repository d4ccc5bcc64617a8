import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * {@code mqadmin} that ends when its commands have, and not seconds later with the last thread of its network library.
 *
 * Several commands, with {@code --then} between them, run one after the other; a form feed follows what each printed.
 */
public class Admin {
    public static void main(String[] args) {
        List<String> command = new ArrayList<>();
        for (String argument : args) {
            if (argument.equals("--then")) {
                run(command);
                command.clear();
            } else {
                command.add(argument);
            }
        }
        run(command);
        Runtime.getRuntime().halt(0);
    }

    private static void run(List<String> command) {
        MQAdminStartup.main(command.toArray(new String[0]));
        System.out.print('\f');
        System.out.flush();
        System.err.flush();
    }
}
