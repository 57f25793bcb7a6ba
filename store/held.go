package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail/driver"
)

// A Lane is what is held back together: the messages of one key on a channel,
// or a single message without a key.
type Lane struct {
	Channel  string
	Name     string // see LaneOf
	Attempts int
	Error    string    // of the last attempt, as ErrorText makes it
	Retry    time.Time // when it is tried again
}

// maxLane is how long the name of a lane is at most.
const maxLane = 1 + driver.MaxKey

// LaneOf names the lane of a message, within its channel. A name that a store
// could not keep in an index, because it is too long or no text, is its hash.
func LaneOf(m *driver.Message) string {
	name := "k" + m.Key
	if m.Key == "" {
		name = "m" + m.Source + "/" + m.ID
	}
	if len(name) > maxLane || strings.IndexByte(name, 0) >= 0 || !utf8.ValidString(name) {
		sum := sha256.Sum256([]byte(name))
		return "h" + hex.EncodeToString(sum[:])
	}
	return name
}

// maxError is how long the text of an error is at most, in bytes.
const maxError = 2000

// ErrorText is the text of an error as every store can keep it: valid UTF-8
// without NUL, and not longer than a person reads.
func ErrorText(err error) string {
	text := strings.ReplaceAll(err.Error(), "\x00", "\uFFFD")
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxError {
		return text
	}
	return strings.ToValidUTF8(text[:maxError], "") + " …"
}

// Held is a message that was set aside.
type Held struct {
	Row
	Lane  Lane
	Since time.Time // when it was set aside
}

// Errors of HeldQueue, wrapped with what was being done.
var (
	// ErrTaken: the relay is trying the message just now.
	ErrTaken = errors.New("the relay is trying it")
	// ErrNotHeld: no message is held at that position.
	ErrNotHeld = errors.New("not held")
)

// HeldQueue is where messages wait that could not be published while others
// could. They keep their order within a lane.
//
// The relay takes what it is about to try; people look at what is held, change
// it and discard it, without a term and beside a relay that runs. What they
// change is changed in the outbox's own row as well, so that nothing brings the
// old one back: no rewind, no relay that begins at an earlier cursor.
type HeldQueue interface {
	// Blocked reports for each lane, by channel and name, whether messages of
	// it are held, so that later ones must follow them.
	Blocked(ctx context.Context, t Term, lanes []Lane) ([]bool, error)

	// Due returns held messages of lanes that are to be tried
	// again by now, the lanes that wait longest first, each lane's in order and
	// from its beginning. Lanes of the channels in skip are left out. next says
	// when the first of the other lanes is due, zero if there are none.
	//
	// The lanes of what it returns are taken for a time from before it returns:
	// until that is over, or Advance has released a message of the lane or
	// written down a failure, Edit and Discard of its messages are ErrTaken.
	Due(ctx context.Context, t Term, skip []string, max Limit, take time.Duration) (rows []Held, next time.Time, err error)

	// RetryHeld makes lanes due at once: one of a channel by its name, all of a
	// channel for an empty name, all of every channel if both are empty. It
	// returns how many there are. It needs no term: people use it.
	RetryHeld(ctx context.Context, channel, name string) (lanes int, err error)

	// Browse returns at most max held messages that come after a position, in
	// the order of their positions, for people to look at.
	Browse(ctx context.Context, shard int, after Position, max int) ([]Held, error)

	// Edit replaces attributes, headers and body of a held message by m's, and
	// makes its lane due at once. Id, channel and key stay. It needs no term. If
	// nothing is held there it is ErrNotHeld, while the relay is trying it
	// ErrTaken; then nothing is changed.
	Edit(ctx context.Context, shard int, p Position, m *driver.Message) error

	// Discard deletes held messages for good, and makes what is left of their
	// lanes due at once. It returns how many there were. It needs no term. While
	// the relay is trying one of them it is ErrTaken, and none is deleted.
	Discard(ctx context.Context, shard int, ps []Position) (n int, err error)
}
