import io.nats.client.Connection;
import io.nats.client.JetStream;
import io.nats.client.JetStreamSubscription;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.PullSubscribeOptions;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import java.io.PrintStream;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

/**
 * A program that knows NATS and nothing of Dovetail.
 *
 * <pre>
 * Client.java URL FROM TO   reads the first message of the stream FROM through a consumer
 *                           of its own and prints it, a field a line, then sends a
 *                           CloudEvent to the subject TO
 * </pre>
 */
public class Client {
    static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] args) throws Exception {
        try (Connection nc = Nats.connect(args[0])) {
            JetStream js = nc.jetStream();
            JetStreamSubscription in = js.subscribe(null, PullSubscribeOptions.builder().stream(args[1]).durable("java").build());
            Message m = in.fetch(1, Duration.ofSeconds(60)).get(0);
            out.println("subject\t" + m.getSubject());
            for (String name : m.getHeaders().keySet()) {
                for (String value : m.getHeaders().get(name)) {
                    out.println("header " + name + "\t" + (name.startsWith("ce-") ? decode(value) : value));
                }
            }
            out.println("body\t" + new String(m.getData(), StandardCharsets.UTF_8));
            m.ackSync(Duration.ofSeconds(60));
            String[][] headers = {
                {"ce-specversion", "1.0"}, {"ce-id", "java/1"}, {"ce-source", "/java"}, {"ce-type", "ordering.order-placed.v1"},
                {"ce-time", "2010-12-01T08:26:00Z"}, {"ce-datacontenttype", "application/json"},
                {"ce-partitionkey", encode("顾客 17850")}, {"ce-comexampleextension", "kept"}, {"tenant", "acme"}};
            Headers h = new Headers();
            for (String[] pair : headers) {
                h.add(pair[0], pair[1]);
            }
            js.publish(NatsMessage.builder().subject(args[2]).headers(h).data("{\"sku\":\"85123A\",\"name\":\"铁皮 lantern\"}", StandardCharsets.UTF_8).build());
        }
    }

    // Percent-encoding as in URIs, which differs from that of forms in the space alone.
    static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20");
    }

    static String decode(String text) {
        return URLDecoder.decode(text.replace("+", "%2B"), StandardCharsets.UTF_8);
    }
}
