package rabbitbus

import (
	"strings"
	"testing"
)

// What real nodes tell, pressure_test.go and cluster_test.go see. Here is what is made
// of it: the node that has to be restarted is the one that most are cut off from,
// whichever of them tells.
func TestExamine_names_the_node_to_act_on(t *testing.T) {
	up := func(name string, cut ...string) node { return node{Name: name, Running: true, Partitions: cut} }
	for name, c := range map[string]struct {
		nodes           []node
		subject, remedy string
		stops           bool
	}{
		"well":                  {[]node{up("a"), up("b"), up("c")}, "", "", false},
		"all tell":              {[]node{up("a", "c"), up("b", "c"), up("c", "a", "b")}, "node c", "restart c: ", false},
		"the others tell":       {[]node{up("a", "c"), up("b", "c"), up("c")}, "node c", "restart c: ", false},
		"only it tells":         {[]node{up("a"), up("b"), up("c", "a", "b")}, "node c", "restart c: ", false},
		"two of a pair":         {[]node{up("a", "b"), up("b", "a")}, "nodes a, b", "choose the part that goes on", false},
		"two parts":             {[]node{up("a", "c", "d", "e"), up("b", "c", "d", "e"), up("c", "a", "b"), up("d", "a", "b"), up("e")}, "nodes a, b, c, d, e", "choose the part that goes on", false},
		"one of five":           {[]node{up("a", "e"), up("b", "e"), up("c", "e"), up("d", "e"), up("e")}, "node e", "restart e: ", false},
		"two of three are away": {[]node{up("a"), {Name: "b"}, {Name: "c"}}, "node b", "forget_cluster_node b", true},
		"looks away":            {[]node{up("a", "c"), up("b", "c"), {Name: "c"}}, "node c", "restart c: ", false},
		"away":                  {[]node{up("a"), {Name: "b"}, up("c")}, "node b", "forget_cluster_node b", false},
		"short of memory":       {[]node{{Name: "a", Running: true, MemAlarm: true}}, "node a", "vm_memory_high_watermark", true},
		"short of a disk":       {[]node{{Name: "a", Running: true, DiskAlarm: true}}, "node a", "disk_free_limit", true},
		"alarm comes first":     {[]node{{Name: "b"}, {Name: "a", Running: true, DiskAlarm: true}, up("c")}, "node a", "disk_free_limit", true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			all := findings(c.nodes)
			if c.subject == "" {
				if len(all) > 0 {
					t.Errorf("it finds %+v", all)
				}
				return
			}
			if want := 1 + strings.Count(name, "first") + strings.Count(name, "two of three"); len(all) != want {
				t.Errorf("it finds %+v, want %d findings", all, want)
			}
			if len(all) == 0 || all[0].Subject != c.subject || !strings.Contains(all[0].Remedy, c.remedy) || all[0].Stops != c.stops {
				t.Errorf("it finds %+v, want first %s: %s", all, c.subject, c.remedy)
			}
		})
	}
}
