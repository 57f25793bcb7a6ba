// Package clustertest breaks the nodes of a cluster while services work over it,
// and checks what they promise: everything that was committed is handled once and
// in order, no service ends, messages flow again in the time that the broker needs
// to notice and to elect, plus three seconds, and requests are answered.
//
// A transport's test names its cluster and says what its broker needs:
//
//	func TestCluster_outlives_its_nodes(t *testing.T) {
//		c := servers.StartCluster(t, servers.NATS, 3)
//		clustertest.Run(t, clustertest.Harness{Nodes: clustertest.NodesOf(c), URL: c.URL()+"&partitions=6", Ordered: true, Detection: …})
//	}
//
// A node is killed, stopped, frozen for some seconds, and lost for good. With
// DOVETAIL_FAULT_PERIOD, as in 30s, a node is frozen for so long, two of three are
// gone for a third of that, and all are restarted one after the other; and what is
// late is an error. Without, times are only logged: other tests run beside.
// DOVETAIL_FAULTS=freeze,kill has only those happen.
//
// [RunPair] does the same to the services' database: a PostgreSQL primary and its
// synchronous standby, over a broker that nothing breaks. A primary is killed,
// frozen, stopped in good order and lost, and the standby promoted each time; the
// standby is lost and comes back; and one is promoted that has not got what the
// primary showed, which must neither be told as committed nor settled.
package clustertest
