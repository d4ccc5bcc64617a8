import org.apache.rocketmq.tools.command.MQAdminStartup;

/** {@code mqadmin} that ends when its command has, and not seconds later with the last thread of its network library. */
public class Admin {
    public static void main(String[] args) {
        MQAdminStartup.main(args);
        System.out.flush();
        System.err.flush();
        Runtime.getRuntime().halt(0);
    }
}
