package rabbitbus_test

import (
	"testing"

	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
)

// TestBeside_each_other runs tests that leave the server as it is, and that wait
// for networks, clocks and other programs more than they work, all at once. What
// one of them leaves behind is found when the last has ended.
func TestBeside_each_other(t *testing.T) {
	servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	for name, test := range map[string]func(*testing.T){
		"Link_that_stalls_hangs_nobody":                testLinkStalls,
		"Receiver_waits_for_what_its_lost_link_had":    testLostLink,
		"Interop_with_a_plain_Python_client_both_ways": testPython,
		"Interop_with_a_plain_Java_client_both_ways":   testJava,
		"Connect_says_what_is_wrong_and_keeps_secrets": testConnectErrors,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}
