package verify

import (
	"hash/crc32"
	"strconv"
	"time"
)

// A Note is the body of the events that are published.
type Note struct {
	Key  string `json:"key"`
	N    int64  `json:"n"`    // of the key, from 1, without gaps among what was committed
	Text string `json:"text"` // anything, of any length
	Sum  uint32 `json:"sum"`  // see Note.Check
}

// Check is the sum that a whole note has in Sum.
func (n Note) Check() uint32 {
	sum := crc32.ChecksumIEEE([]byte(n.Key))
	sum = crc32.Update(sum, crc32.IEEETable, strconv.AppendInt([]byte{0}, n.N, 10))
	sum = crc32.Update(sum, crc32.IEEETable, []byte{0})
	return crc32.Update(sum, crc32.IEEETable, []byte(n.Text))
}

// Sent is an event that a committed transaction published, as the writers'
// database has it.
type Sent struct {
	ID  string // of the message
	Tx  string // which transaction
	Key string
	N   int64 // of the key: the order in which the transactions held its lock
	Sum uint32
	At  time.Time
	// Unsure says that the sender was not told whether it was sent, and that no
	// database knows either: it may be missing.
	Unsure bool
}

// An Effect is what a consumer did with an event, as the consumers' database has
// it.
type Effect struct {
	Group string
	Key   string
	Pos   int64 // of the group and key: the order of effects
	ID    string
	N     int64
	Sum   uint32 // of what arrived
	At    time.Time
	Who   string // the process, with its life
}

// A Result is what a writer was told about its transaction.
type Result string

// The results.
const (
	Committed  Result = "committed"
	RolledBack Result = "rolled back" // as the writer wished
	Failed     Result = "failed"      // not as the writer wished, and rolled back as well
	Unknown    Result = "unknown"
)

// An Outcome is what a writer has written down about a transaction after it
// ended. One that was killed before has written nothing.
type Outcome struct {
	Tx       string
	Result   Result
	Messages int // that it published, those of undone parts left out
}

// A Kind is what is wrong.
type Kind string

// What can be wrong.
const (
	Lost      Kind = "lost"      // committed, and neither handled nor kept nor anywhere else
	Stuck     Kind = "stuck"     // committed, not handled, and still with the broker or in an outbox
	Abandoned Kind = "abandoned" // kept as a dead letter, though nothing keeps its handler from handling it, or it has been
	Invented  Kind = "invented"  // handled or among the dead letters, and never committed
	Double    Kind = "double"    // handled once more, with another effect
	Inversion Kind = "inversion" // handled after a later one of its key
	Torn      Kind = "torn"      // not what was published under its id
	Untrue    Kind = "untrue"    // the writer was told something else than the database says
)

// Kinds are all kinds, in the order in which they are reported.
var Kinds = []Kind{Lost, Stuck, Abandoned, Invented, Double, Inversion, Torn, Untrue}

// A Finding names one thing that is wrong.
type Finding struct {
	Kind  Kind   `json:"kind"`
	Group string `json:"group,omitempty"` // that it happened to
	ID    string `json:"id,omitempty"`    // of the message
	Tx    string `json:"transaction,omitempty"`
	Key   string `json:"key,omitempty"`
	N     int64  `json:"n,omitempty"`
	Text  string `json:"text"` // what happened, in words
}
