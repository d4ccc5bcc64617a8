import com.alibaba.fastjson.JSON;
import com.alibaba.fastjson.JSONArray;
import com.alibaba.fastjson.JSONObject;
import com.alibaba.fastjson.serializer.SerializerFeature;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.rocketmq.acl.common.AclClientRPCHook;
import org.apache.rocketmq.acl.common.SessionCredentials;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueConsistentHash;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.RPCHook;

/**
 * Official producers and consumers, many in one JVM, for the tests of the Python client.
 *
 * One JSON object per line each way. In: {"id", "command", and the command's arguments}. Out: {"id", "result"} or
 * {"id", "error"} for a command, {"consumer", "message"} for a message that a consumer got, or that a transactional
 * producer was asked about. Ends with its input.
 */
public class Driver {
    private interface Command {
        Object run(JSONObject arguments) throws Exception;
    }

    private final String namesrv;
    private final PrintStream out;
    private final Map<String, Command> commands = new HashMap<>();
    private final Map<String, DefaultMQProducer> producers = new HashMap<>();
    private final Map<String, TransactionMQProducer> transactional = new ConcurrentHashMap<>();
    private final Map<String, DefaultMQPushConsumer> consumers = new ConcurrentHashMap<>();
    private final Map<String, DefaultLitePullConsumer> pollers = new ConcurrentHashMap<>();

    private Driver(String namesrv, PrintStream out) {
        this.namesrv = namesrv;
        this.out = out;
        commands.put("send", this::send);
        commands.put("consume", this::consume);
        commands.put("poll", this::poll);
        commands.put("request", this::request);
        commands.put("transactional", this::transactional);
        commands.put("transact", this::transact);
        commands.put("stop", this::stop);
        commands.put("assigned", this::assigned);
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, false, "UTF-8");
        System.setOut(System.err); // whatever a library prints is not an answer
        new Driver(args[0], out).serve();
        System.exit(0);
    }

    private void serve() throws Exception {
        ExecutorService workers = Executors.newCachedThreadPool();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JSONObject request = JSON.parseObject(line);
            workers.execute(() -> answer(request));
        }
    }

    private void answer(JSONObject request) {
        JSONObject answer = new JSONObject(true);
        answer.put("id", request.get("id"));
        try {
            answer.put("result", commands.get(request.getString("command")).run(request));
        } catch (Throwable error) {
            error.printStackTrace();
            answer.put("error", error.toString());
        }
        print(answer);
    }

    private void print(JSONObject line) {
        // Escaped to ASCII, so that no text can be spoilt on its way.
        String text = JSON.toJSONString(line, SerializerFeature.BrowserCompatible,
            SerializerFeature.WriteMapNullValue, SerializerFeature.DisableCircularReferenceDetect);
        synchronized (out) {
            out.println(text);
            out.flush();
        }
    }

    // -- producing

    private Object send(JSONObject arguments) throws Exception {
        DefaultMQProducer producer = producer(arguments);
        List<Message> messages = new ArrayList<>();
        for (Object body : arguments.getJSONArray("bodies")) {
            messages.add(message(arguments, (String) body));
        }
        JSONArray results = new JSONArray();
        if (arguments.getBooleanValue("batch")) {
            results.add(result(producer.send(messages)));
            return results;
        }
        for (Message message : messages) {
            results.add(sendOne(producer, message, arguments));
        }
        return results;
    }

    private Object sendOne(DefaultMQProducer producer, Message message, JSONObject arguments) throws Exception {
        JSONObject queue = arguments.getJSONObject("queue");
        if (arguments.getBooleanValue("oneway")) {
            producer.sendOneway(message);
            return null;
        }
        if (queue != null) {
            return result(producer.send(message, new MessageQueue(
                message.getTopic(), queue.getString("broker_name"), queue.getIntValue("queue_id"))));
        }
        if (arguments.containsKey("hash_key")) {
            return result(producer.send(message, new SelectMessageQueueByHash(), arguments.getString("hash_key")));
        }
        return result(producer.send(message));
    }

    private Object request(JSONObject arguments) throws Exception {
        Message message = message(arguments, arguments.getString("body"));
        Message reply = producer(arguments).request(message, arguments.getLongValue("timeout_ms"));
        return describe((MessageExt) reply);
    }

    /** Starts a producer whose local transactions, and answers to brokers, end as the message's properties say. */
    private Object transactional(JSONObject arguments) throws Exception {
        String handle = arguments.getString("producer");
        TransactionMQProducer producer = new TransactionMQProducer(arguments.getString("group"), credentials());
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName("driver-" + handle);
        producer.setSendMsgTimeout(10000);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                return LocalTransactionState.valueOf(message.getProperty("local"));
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                take(handle, Collections.singletonList(message), 0, 0);
                return LocalTransactionState.valueOf(message.getProperty("check"));
            }
        });
        producer.start();
        // Brokers ask only producers they know by a heartbeat, and one before the first send goes to no broker.
        MQClientInstance client = producer.getDefaultMQProducerImpl().getMqClientFactory();
        client.updateTopicRouteInfoFromNameServer(arguments.getString("topic"));
        client.sendHeartbeatToAllBrokerWithLock();
        transactional.put(handle, producer);
        return handle;
    }

    private Object transact(JSONObject arguments) throws Exception {
        TransactionMQProducer producer = transactional.get(arguments.getString("producer"));
        return result(producer.sendMessageInTransaction(message(arguments, arguments.getString("body")), null));
    }

    private Message message(JSONObject arguments, String body) {
        Message message = new Message(arguments.getString("topic"), Base64.getDecoder().decode(body));
        if (arguments.containsKey("tags")) {
            message.setTags(arguments.getString("tags"));
        }
        if (arguments.containsKey("keys")) {
            message.setKeys(arguments.getString("keys"));
        }
        JSONObject properties = arguments.getJSONObject("properties");
        if (properties != null) {
            properties.forEach((name, value) -> message.putUserProperty(name, (String) value));
        }
        if (arguments.containsKey("delay_level")) {
            message.setDelayTimeLevel(arguments.getIntValue("delay_level"));
        }
        return message;
    }

    private synchronized DefaultMQProducer producer(JSONObject arguments) throws Exception {
        String group = arguments.getString("group");
        Integer compressOver = arguments.getInteger("compress_over");
        String compressType = arguments.getString("compress_type");
        String key = group + "/" + compressOver + "/" + compressType + "/" + arguments.getString("namespace")
            + "/" + arguments.getString("namespace_v2");
        DefaultMQProducer producer = producers.get(key);
        if (producer == null) {
            producer = new DefaultMQProducer(group, credentials());
            producer.setNamesrvAddr(namesrv);
            setNamespace(producer, arguments);
            producer.setInstanceName("driver-producer-" + producers.size());
            producer.setSendMsgTimeout(10000);
            if (compressOver != null) {
                producer.setCompressMsgBodyOverHowmuch(compressOver);
            }
            if (compressType != null) {
                setEnum(producer, "setCompressType", compressType);
            }
            producer.start();
            producers.put(key, producer);
        }
        return producer;
    }

    /** What signs requests with the keys in the system properties, null without any. */
    private static RPCHook credentials() {
        String accessKey = System.getProperty("driver.accessKey");
        return accessKey == null ? null
            : new AclClientRPCHook(new SessionCredentials(accessKey, System.getProperty("driver.secretKey")));
    }

    private static void setNamespace(ClientConfig client, JSONObject arguments) throws Exception {
        if (arguments.containsKey("namespace")) {
            client.setNamespace(arguments.getString("namespace"));
        }
        if (arguments.containsKey("namespace_v2")) {
            // Releases before 5 do not have it.
            ClientConfig.class.getMethod("setNamespaceV2", String.class).invoke(client, arguments.getString("namespace_v2"));
        }
    }

    private static JSONObject result(SendResult sent) {
        JSONObject result = new JSONObject();
        result.put("status", sent.getSendStatus().name());
        result.put("msg_id", sent.getMsgId());
        result.put("offset_msg_id", sent.getOffsetMsgId());
        result.put("broker_name", sent.getMessageQueue().getBrokerName());
        result.put("queue_id", sent.getMessageQueue().getQueueId());
        result.put("queue_offset", sent.getQueueOffset());
        return result;
    }

    // -- consuming

    private Object consume(JSONObject arguments) throws Exception {
        String handle = arguments.getString("consumer");
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(
            arguments.getString("group"), credentials(), new AllocateMessageQueueAveragely());
        consumer.setNamesrvAddr(namesrv);
        setNamespace(consumer, arguments);
        consumer.setInstanceName("driver-" + handle);
        consumer.setConsumeFromWhere(ConsumeFromWhere.valueOf(arguments.getString("consume_from")));
        if (arguments.containsKey("timestamp")) {
            consumer.setConsumeTimestamp(arguments.getString("timestamp"));
        }
        if (arguments.getBooleanValue("broadcasting")) {
            setEnum(consumer, "setMessageModel", "BROADCASTING");
        }
        if (arguments.getBooleanValue("pop")) {
            // Releases before 5 do not have it.
            DefaultMQPushConsumer.class.getMethod("setClientRebalance", boolean.class).invoke(consumer, false);
        }
        if (arguments.getBooleanValue("consistent_hash")) {
            consumer.setAllocateMessageQueueStrategy(new AllocateMessageQueueConsistentHash());
        }
        if (arguments.containsKey("threads")) {
            consumer.setConsumeThreadMin(arguments.getIntValue("threads"));
            consumer.setConsumeThreadMax(arguments.getIntValue("threads"));
        }
        if (arguments.containsKey("max_reconsume_times")) {
            consumer.setMaxReconsumeTimes(arguments.getIntValue("max_reconsume_times"));
        }
        if (arguments.containsKey("batch_size")) {
            consumer.setConsumeMessageBatchMaxSize(arguments.getIntValue("batch_size"));
        }
        if (arguments.containsKey("sql")) {
            consumer.subscribe(arguments.getString("topic"), MessageSelector.bySql(arguments.getString("sql")));
        } else {
            consumer.subscribe(arguments.getString("topic"), arguments.getString("expression"));
        }
        register(consumer, handle, arguments);
        consumer.start();
        consumers.put(handle, consumer);
        return handle;
    }

    private Object poll(JSONObject arguments) throws Exception {
        String handle = arguments.getString("consumer");
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(arguments.getString("group"));
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName("driver-" + handle);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(arguments.getString("topic"), "*");
        consumer.start();
        pollers.put(handle, consumer);
        Thread thread = new Thread(() -> {
            while (pollers.containsKey(handle)) {
                take(handle, consumer.poll(200), 0, 0);
            }
        });
        thread.setDaemon(true);
        thread.start();
        return handle;
    }

    private void register(DefaultMQPushConsumer consumer, String handle, JSONObject arguments) throws Exception {
        if (arguments.containsKey("reply")) {
            byte[] answer = Base64.getDecoder().decode(arguments.getString("reply"));
            DefaultMQProducer producer = producer(arguments);
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) ->
                reply(producer, messages, answer)
                    ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER);
            return;
        }
        int failures = arguments.getIntValue("fail_times");
        long pause = arguments.getLongValue("pause_ms");
        if (arguments.getBooleanValue("orderly")) {
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) ->
                take(handle, messages, failures, pause)
                    ? ConsumeOrderlyStatus.SUCCESS : ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT);
        } else {
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) ->
                take(handle, messages, failures, pause)
                    ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER);
        }
    }

    /** Replies to each message with this answer, and the message behind it. */
    private static boolean reply(DefaultMQProducer producer, List<MessageExt> messages, byte[] answer) {
        try {
            for (MessageExt message : messages) {
                ByteArrayOutputStream body = new ByteArrayOutputStream();
                body.write(answer);
                body.write(message.getBody());
                producer.send(MessageUtil.createReplyMessage(message, body.toByteArray()));
            }
            return true;
        } catch (Exception error) {
            error.printStackTrace();
            return false;
        }
    }

    private boolean take(String handle, List<MessageExt> messages, int failures, long pause) {
        boolean success = true;
        for (MessageExt message : messages) {
            JSONObject line = new JSONObject(true);
            line.put("consumer", handle);
            line.put("message", describe(message));
            print(line);
            success &= message.getReconsumeTimes() >= failures;
        }
        try {
            Thread.sleep(pause);
        } catch (InterruptedException interrupted) {
            return false;
        }
        return success;
    }

    private static JSONObject describe(MessageExt message) {
        JSONObject line = new JSONObject(true);
        line.put("topic", message.getTopic());
        line.put("msg_id", message.getMsgId());
        line.put("offset_msg_id", message instanceof MessageClientExt
            ? ((MessageClientExt) message).getOffsetMsgId() : null);
        line.put("body", Base64.getEncoder().encodeToString(message.getBody()));
        line.put("tags", message.getTags());
        line.put("keys", message.getKeys());
        line.put("properties", message.getProperties());
        line.put("broker_name", message.getBrokerName());
        line.put("queue_id", message.getQueueId());
        line.put("queue_offset", message.getQueueOffset());
        line.put("reconsume_times", message.getReconsumeTimes());
        line.put("sys_flag", message.getSysFlag());
        line.put("born_timestamp", message.getBornTimestamp());
        line.put("store_timestamp", message.getStoreTimestamp());
        return line;
    }

    /** For setters that only some releases have, and for enums whose package differs between releases. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    private static void setEnum(Object client, String setter, String name) throws Exception {
        boolean found = false;
        for (Method method : client.getClass().getMethods()) {
            if (method.getName().equals(setter)) {
                method.invoke(client, Enum.valueOf((Class) method.getParameterTypes()[0], name));
                found = true;
            }
        }
        if (!found) {
            throw new UnsupportedOperationException("this release has no " + setter);
        }
    }

    private Object stop(JSONObject arguments) {
        DefaultMQPushConsumer consumer = consumers.remove(arguments.getString("consumer"));
        if (consumer != null) {
            consumer.shutdown();
        }
        DefaultLitePullConsumer poller = pollers.remove(arguments.getString("consumer"));
        if (poller != null) {
            poller.shutdown();
        }
        TransactionMQProducer producer = transactional.remove(arguments.getString("consumer"));
        if (producer != null) {
            producer.shutdown();
        }
        return consumer != null || poller != null || producer != null;
    }

    private Object assigned(JSONObject arguments) {
        DefaultMQPushConsumer consumer = consumers.get(arguments.getString("consumer"));
        JSONArray queues = new JSONArray();
        consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().forEach((queue, process) -> {
            if (!process.isDropped()) {
                JSONArray name = new JSONArray();
                name.add(queue.getTopic());
                name.add(queue.getBrokerName());
                name.add(queue.getQueueId());
                queues.add(name);
            }
        });
        return queues;
    }
}
