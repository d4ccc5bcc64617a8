import com.alibaba.fastjson2.JSON;
import com.alibaba.fastjson2.JSONObject;
import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/** The official Java client's side of a scenario; speaks as {@code bench/worker.py} does. */
public final class JavaSide {
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private final String kind, namesrv, topic;
    private final int callers, batch, messages, bodyBytes;
    private final double seconds;

    private JavaSide(JSONObject job) {
        kind = job.getString("kind");
        namesrv = job.getString("namesrv");
        topic = job.getString("topic");
        callers = job.getIntValue("callers");
        batch = job.getIntValue("batch");
        messages = job.getIntValue("messages");
        bodyBytes = job.getIntValue("body_bytes");
        seconds = job.getDoubleValue("seconds");
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        System.setOut(new PrintStream(OutputStream.nullOutputStream())); // what the client has to say
        JavaSide side = new JavaSide(JSON.parseObject(arguments[0]));
        Callable<JSONObject> round = side.open();
        answers.println("ready");
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        while (commands.readLine() != null) {
            answers.println(round.call());
        }
        System.exit(0);
    }

    private Callable<JSONObject> open() throws Exception {
        if (kind.equals("consume")) {
            return this::consume;
        }
        DefaultMQProducer producer = new DefaultMQProducer("bench_java");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        send(producer); // its compiler warms up as the broker's did
        return kind.equals("oneway") ? () -> oneway(producer) : () -> send(producer);
    }

    private Message message() {
        return new Message(topic, new byte[bodyBytes]);
    }

    private JSONObject send(DefaultMQProducer producer) throws Exception {
        Clock clock = new Clock();
        long end = System.nanoTime() + (long) (seconds * 1e9);
        AtomicLong done = new AtomicLong();
        List<Long> latencies = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (int caller = 0; caller < callers; caller++) {
            boolean timed = caller == 0;
            Thread thread = new Thread(() -> {
                try {
                    for (long begin = System.nanoTime(); begin < end; ) {
                        producer.send(message());
                        long now = System.nanoTime();
                        if (timed) {
                            latencies.add(now - begin);
                        }
                        done.incrementAndGet();
                        begin = now;
                    }
                } catch (Exception error) {
                    error.printStackTrace();
                    System.exit(1);
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        return clock.result(done.get(), latencies);
    }

    private JSONObject oneway(DefaultMQProducer producer) throws Exception {
        Clock clock = new Clock();
        for (int sent = 0; sent < messages; sent++) {
            producer.sendOneway(message());
        }
        producer.maxOffset(producer.fetchPublishMessageQueues(topic).get(0));
        return clock.result(messages, Collections.emptyList());
    }

    private JSONObject consume() throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("bench_java_" + System.nanoTime());
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setConsumeMessageBatchMaxSize(batch);
        consumer.subscribe(topic, "*");
        AtomicLong got = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        Clock[] clock = new Clock[1];
        JSONObject[] result = new JSONObject[1];
        consumer.registerMessageListener((MessageListenerConcurrently) (list, context) -> {
            long now = got.addAndGet(list.size());
            if (now == list.size()) {
                clock[0] = new Clock();
            }
            if (now >= messages && now - list.size() < messages) {
                result[0] = clock[0].result(messages, Collections.emptyList());
                done.countDown();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        done.await();
        consumer.shutdown();
        return result[0];
    }

    /** Wall and processor time from its making on. */
    private static final class Clock {
        private final long begin = System.nanoTime();
        private final long processor = SYSTEM.getProcessCpuTime();

        JSONObject result(long messages, List<Long> latencies) {
            JSONObject result = new JSONObject();
            result.put("messages", messages);
            result.put("seconds", (System.nanoTime() - begin) / 1e9);
            result.put("cpu_us", (SYSTEM.getProcessCpuTime() - processor) / 1e3 / messages);
            if (!latencies.isEmpty()) {
                Collections.sort(latencies);
                result.put("p50_ms", latencies.get(latencies.size() / 2) / 1e6);
                result.put("p99_ms", latencies.get((int) (latencies.size() * 0.99)) / 1e6);
            }
            try {
                for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
                    if (line.startsWith("VmHWM:")) {
                        result.put("rss_mb", Long.parseLong(line.replaceAll("[^0-9]", "")) / 1024.0);
                    }
                }
            } catch (java.io.IOException noSuchFile) {
                // not Linux: no such figure
            }
            return result;
        }
    }
}
