import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.GetResponse;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * A program that knows RabbitMQ and nothing of Dovetail.
 *
 * <pre>
 * Client.java URL FROM TO   takes one message from the queue FROM and prints it, a field
 *                           a line, then publishes a CloudEvent to the queue TO
 * </pre>
 */
public class Client {
    static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] args) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(args[0]);
        factory.setVirtualHost("/"); // "…:5672/" is the empty one to this client
        try (Connection connection = factory.newConnection(); Channel channel = connection.createChannel()) {
            read(channel, args[1]);
            write(channel, args[2]);
        }
    }

    static void read(Channel channel, String queue) throws Exception {
        GetResponse got = channel.basicGet(queue, false);
        if (got == null) {
            throw new IllegalStateException("the queue is empty");
        }
        AMQP.BasicProperties p = got.getProps();
        out.println("content-type\t" + p.getContentType());
        out.println("message-id\t" + p.getMessageId());
        out.println("delivery-mode\t" + p.getDeliveryMode());
        for (Map.Entry<String, Object> h : p.getHeaders().entrySet()) {
            for (Object v : h.getValue() instanceof List<?> list ? list : List.of(h.getValue())) {
                out.println("header " + h.getKey() + "\t" + v);
            }
        }
        out.println("body\t" + new String(got.getBody(), StandardCharsets.UTF_8));
        channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
    }

    static void write(Channel channel, String queue) throws Exception {
        Map<String, Object> headers = new HashMap<>();
        headers.put("cloudEvents_specversion", "1.0");
        headers.put("cloudEvents_id", "java/1");
        headers.put("cloudEvents_source", "/java");
        headers.put("cloudEvents_type", "ordering.order-placed.v1");
        headers.put("cloudEvents_time", "2010-12-01T08:26:00Z");
        headers.put("cloudEvents_partitionkey", "17850");
        headers.put("cloudEvents_comexampleextension", "kept");
        headers.put("tenant", "acme");
        headers.put("tag", List.of("a", "b"));
        headers.put("count", 3);
        channel.confirmSelect();
        channel.basicPublish("", queue, true,
                new AMQP.BasicProperties.Builder().contentType("application/json").deliveryMode(2).headers(headers).build(),
                "{\"sku\":\"85123A\",\"name\":\"铁皮 lantern\"}".getBytes(StandardCharsets.UTF_8));
        channel.waitForConfirmsOrDie(60_000);
    }
}
