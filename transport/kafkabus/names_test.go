package kafkabus

import "testing"

// The vectors of org.apache.kafka.common.utils.UtilsTest.testMurmur2.
func TestMurmur2_is_the_one_of_Java(t *testing.T) {
	for text, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(text))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestTopicOf_puts_the_reply_channels_of_a_service_on_one_topic(t *testing.T) {
	for _, c := range []struct {
		channel   string
		transient bool
		want      string
	}{
		{"reply.shop.1f3a", true, "reply.shop"},
		{"reply.shop.eu.1f3a", true, "reply.shop.eu"},
		{"reply.shop", true, "reply.shop"},
		{"reply.shop.1f3a", false, "reply.shop.1f3a"},
		{"prices", true, "prices"},
	} {
		if got := topicOf(c.channel, c.transient); got != c.want {
			t.Errorf("%s (transient %v) is on topic %s, want %s", c.channel, c.transient, got, c.want)
		}
	}
}
