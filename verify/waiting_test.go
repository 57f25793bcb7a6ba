package verify

import (
	"slices"
	"testing"
	"time"
)

// sentTo gives a checker n messages of a key, a second after each other.
func sentTo(t *testing.T, c *Checker, key string, n int) {
	t.Helper()
	for i := range n {
		if err := c.Sent(Sent{ID: IDOf(key, i), Tx: "tx", Key: key, N: int64(i + 1), At: began.Add(time.Duration(i) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChecker_takes_a_message_in_the_outbox_as_stuck_for_each_of_its_groups(t *testing.T) {
	c := NewChecker([]Group{{Name: "one"}, {Name: "many"}, {Name: slow, Path: slow}})
	sentTo(t, c, "key", 6)
	sentTo(t, c, keyOf(slow, 1), 1)
	c.Waiting([]string{"one", "many", slow}, 4, "in the outbox")
	c.Waiting([]string{"one"}, 1, "with the broker")
	v := c.Verdict()
	one, many, other := v.Groups[0], v.Groups[1], v.Groups[2]
	if one.Stuck != 5 || one.Lost != 1 || many.Stuck != 4 || many.Lost != 2 || other.Lost != 1 {
		t.Errorf("stuck and lost: %+v, %+v, %+v: four of six are in the outbox, and one more waits for group one", one, many, other)
	}
}

func TestChecker_does_not_take_what_another_group_handled_for_what_is_in_the_outbox(t *testing.T) {
	c := NewChecker([]Group{{Name: "one"}, {Name: "many"}})
	sentTo(t, c, "key", 4)
	for _, i := range []int{2, 3} { // so they were published
		if err := c.Effect(Effect{Group: "many", Key: "key", ID: IDOf("key", i), N: int64(i + 1), At: began}); err != nil {
			t.Fatal(err)
		}
	}
	c.Waiting([]string{"one", "many"}, 2, "in the outbox")
	v := c.Verdict()
	var lost []string
	for _, f := range v.Findings {
		if f.Kind == Lost {
			lost = append(lost, f.Group+" "+f.ID)
		}
	}
	if want := []string{"one key/3", "one key/2"}; !slices.Equal(lost, want) || v.Stuck != 4 {
		t.Errorf("lost %q, stuck %d: want %q lost, and the other two in the outbox for both groups", lost, v.Stuck, want)
	}
}
