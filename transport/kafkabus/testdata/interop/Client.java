import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A program that knows Kafka and nothing of Dovetail.
 *
 * <pre>
 * Client.java BROKER FROM TO   reads the first message of the topic FROM and prints it,
 *                              a field a line, then sends a CloudEvent to the topic TO
 * </pre>
 */
public class Client {
    static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] args) throws Exception {
        read(args[0], args[1]);
        write(args[0], args[2]);
    }

    static void read(String broker, String topic) {
        Map<String, Object> config = Map.of("bootstrap.servers", broker);
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            ConsumerRecords<String, String> records;
            do {
                records = consumer.poll(Duration.ofSeconds(1));
            } while (records.isEmpty());
            ConsumerRecord<String, String> record = records.iterator().next();
            out.println("partition\t" + record.partition());
            out.println("key\t" + record.key());
            for (Header h : record.headers()) {
                out.println("header " + h.key() + "\t" + new String(h.value(), StandardCharsets.UTF_8));
            }
            out.println("body\t" + record.value());
        }
    }

    static void write(String broker, String topic) throws Exception {
        ProducerRecord<String, String> record = new ProducerRecord<>(topic, "17850", "{\"sku\":\"85123A\",\"name\":\"铁皮 lantern\"}");
        String[][] headers = {
            {"ce_specversion", "1.0"}, {"ce_id", "java/1"}, {"ce_source", "/java"}, {"ce_type", "ordering.order-placed.v1"},
            {"ce_time", "2010-12-01T08:26:00Z"}, {"ce_comexampleextension", "kept"}, {"content-type", "application/json"},
            {"tenant", "acme"}, {"tag", "a"}, {"tag", "b"}};
        for (String[] h : headers) {
            record.headers().add(h[0], h[1].getBytes(StandardCharsets.UTF_8));
        }
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(Map.of("bootstrap.servers", broker), new StringSerializer(), new StringSerializer())) {
            out.println("sent to\t" + producer.send(record).get().partition());
        }
    }
}
