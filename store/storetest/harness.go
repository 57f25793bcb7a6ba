package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/leak"
	"github.com/dovetail-go/dovetail/store"
)

// A Harness tells the suite how to use a store.
type Harness[Tx any] struct {
	// Open opens the database that belongs to a directory, which is empty the
	// first time: a file in it, or a schema named after it. It may be called
	// again for the same directory, also by another process, while the
	// database is open.
	Open func(t testing.TB, dir string) Database[Tx]

	// Durable says that what was committed is there after Close and after the
	// process was killed.
	Durable bool

	// Steps are those that the store passes: the suite kills the process at
	// each.
	Steps []store.Step

	// Sharded opens a database with more than one shard, as Open does.
	Sharded func(t testing.TB, dir string, shards int) Database[Tx]

	// KnownGaps names what the store cannot have, with the reason: fields of
	// Harness and Database that are not set, as in "Sharded", and "Kill" for one
	// that outlives Close and not its process. The cases that need them are
	// skipped. Without the reason they fail.
	KnownGaps map[string]string

	// Only are the cases to run; all if it is nil.
	Only *regexp.Regexp

	// Patience bounds each case; 0 for 5 minutes.
	Patience time.Duration
}

// A Database is an open store with a table of counters.
type Database[Tx any] struct {
	DB store.DB[Tx]

	// Count counts the counter called key up, from 1, in a transaction that
	// then holds its lock, and returns its value.
	Count func(ctx context.Context, tx Tx, key string) (int64, error)

	// Counts returns the committed counters.
	Counts func(ctx context.Context) (map[string]int64, error)

	// Spoil writes into the outbox's row of a message, as by hand, what cannot be
	// read of its attributes: a line without a colon. A store that keeps messages
	// as they are has none.
	Spoil func(ctx context.Context, id string) error

	// End runs a statement in a transaction that has the server end it by itself
	// or refuse everything else in it: one that is interrupted, or in error. A
	// store whose transactions end by nothing but Commit and Rollback has none.
	End func(ctx context.Context, tx Tx)

	// Cut ends the connection of a transaction, as its server's death or a
	// network would, before the COMMIT is sent. A store without connections has
	// none.
	Cut func(ctx context.Context, tx Tx) error

	// Again reports whether an error says that the transaction may succeed when
	// it is run again, as where it could not be put into an order with others.
	// nil for a store whose transactions wait for one another.
	Again func(error) bool

	// Close closes the database.
	Close func() error
}

// Run runs the suite.
func Run[Tx any](t *testing.T, h Harness[Tx]) {
	s := suite[Tx]{h}
	for _, c := range []struct {
		name string
		run  func(*env[Tx])
	}{
		{"Migrate_runs_again_without_harm", s.migrate},
		{"Commit_takes_the_messages_with_it", s.commit},
		{"Rollback_leaves_nothing", s.rollback},
		{"Savepoint_undoes_a_part", s.savepoint},
		{"Write_in_a_transaction_commits_with_it", s.write},
		{"Message_comes_back_as_it_was", s.roundtrip},
		{"Message_with_a_line_break_in_a_header_is_refused", s.lineBreak},
		{"Next_stops_at_its_limits", s.limits},
		{"Writers_that_commit_and_roll_back_lose_nothing_and_keep_the_order", s.writers},
		{"Transaction_that_the_server_ended_leaves_nothing", s.ended},
		{"Rollback_and_savepoints_work_after_their_context_has_ended", s.rollbackLate},
		{"Commit_of_delayed_messages_alone_wakes", s.wakes},
		{"Ids_keys_and_bodies_are_kept_whole", s.whole},
		{"Row_that_cannot_be_read_is_given_out_with_its_error", s.unreadable},
		{"Row_that_cannot_be_read_is_held_and_can_be_edited", s.unreadableHeld},
		{"Relay_passes_what_cannot_be_read_until_it_is_edited", s.relayUnreadable},
		{"Held_message_of_a_long_key_keeps_its_lane", s.longKey},
		{"Held_message_with_any_error_text_is_kept", s.errorText},
		{"Held_message_that_was_edited_comes_as_edited_whatever_happens", s.edited},
		{"Held_message_that_was_discarded_does_not_come_back", s.discarded},
		{"Held_message_that_is_being_tried_is_not_changed", s.taken},
		{"Held_messages_of_one_lane_are_tried_again_when_asked", s.retryLane},
		{"Held_messages_are_read_within_limits_and_in_the_order_of_lanes", s.dueLimits},
		{"Held_message_that_is_held_again_after_its_release_is_due", s.heldAgain},
		{"Held_message_that_was_released_is_not_browsed", s.browseReleased},
		{"Lanes_that_differ_in_case_alone_are_apart", s.lanesByCase},
		{"Cursor_never_goes_back", s.cursorBack},
		{"Promote_moves_nothing_early", s.promoteEarly},
		{"Promote_keeps_the_order_of_a_key_beside_a_cancel", s.promoteLocked},
		{"Due_times_of_all_centuries_are_kept", s.dueTimes},
		{"Retire_keeps_to_what_was_passed_and_to_its_maximum", s.retireBounds},
		{"Lease_of_a_wrong_clock_is_taken_over", s.leaseAhead},
		{"Inbox_row_that_is_taken_over_gets_the_later_requeues_and_since", s.takeOver},
		{"Transaction_whose_connection_is_cut_leaves_nothing", s.cut},
		{"Savepoint_within_another_is_undone_alone", s.savepoints},
		{"Next_loses_nothing_of_a_transaction_that_commits_late", s.lateCommit},
		{"Next_keeps_the_order_of_a_lock_whoever_began_first", s.lockOrder},
		{"Next_does_not_wait_for_what_was_rolled_back", s.gap},
		{"Shards_share_nothing_but_the_tables", s.shards},
		{"Batches_of_thousands_are_taken_whole", s.large},
		{"Text_that_is_none_comes_back_as_it_was_or_is_refused", s.noText},
		{"Blocked_lanes_stay_so_until_all_of_them_is_released", s.blockedUntilEmpty},
		{"Step_that_releases_and_holds_releases_first", s.releaseAndHold},
		{"Held_message_that_waits_is_browsed", s.browseWaiting},
		{"Discard_of_several_is_whole_or_not_at_all", s.discardWhole},
		{"Inbox_row_that_is_marked_keeps_its_requeues", s.markRequeues},
		{"Token_tells_whether_a_transaction_committed", s.token},
		{"Token_that_was_resolved_keeps_its_transaction_from_committing", s.tokenFence},
		{"Token_is_forgotten_by_age", s.forget},
		{"Lease_has_one_holder", s.lease},
		{"Lease_that_has_passed_begins_a_new_term", s.leaseTerm},
		{"Term_that_has_passed_changes_nothing", s.fenced},
		{"Resume_is_refused_to_another_service", s.owner},
		{"Cursor_stays_where_it_was_advanced_to", s.cursor},
		{"Next_moves_the_cursor_along_if_at_all", s.along},
		{"Held_messages_keep_their_order_and_block_their_lane", s.held},
		{"Held_message_is_not_forgotten_by_a_release_beside_it", s.heldBeside},
		{"Held_messages_wait_for_their_next_attempt", s.heldRetry},
		{"Delayed_messages_enter_the_outbox_when_they_are_due", s.later},
		{"Delayed_message_can_be_cancelled_until_it_is_due", s.cancel},
		{"Rewind_gives_everything_retained_again_in_order", s.rewind},
		{"Retire_deletes_only_what_was_published", s.retire},
		{"Message_written_after_everything_was_retired_is_read", s.retireAll},
		{"Stats_count_the_backlog", s.stats},
		{"Inbox_lets_a_message_in_once", s.enterOnce},
		{"Inbox_row_rolls_back_with_its_effect", s.enterRollback},
		{"Inbox_lets_one_of_two_transactions_in", s.enterRace},
		{"Inbox_keeps_the_reply_to_the_byte", s.reply},
		{"Inbox_tells_handlers_and_sources_apart", s.keys},
		{"Inbox_row_of_a_dead_letter_lets_only_a_requeue_in", s.dead},
		{"Inbox_row_that_was_cancelled_keeps_the_message_out", s.cancelled},
		{"Inbox_row_that_was_cancelled_stays_so_through_a_dead_letter", s.cancelledStays},
		{"Inbox_row_that_was_left_lets_the_message_in_again", s.leave},
		{"Purge_deletes_old_handled_rows_only", s.purge},
		{"Reopened_database_has_what_was_committed", s.reopen},
		{"Killed_process_loses_nothing_and_invents_nothing", s.crash},
		{"Killed_consumer_has_one_effect_of_each_message", s.consume},
	} {
		if h.Only != nil && !h.Only.MatchString(c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			leak.Check(t)
			e := &env[Tx]{T: t, h: h, dir: t.TempDir()}
			if job := childJob(); job != nil {
				e.dir = job.Dir
			}
			ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(h.Patience, 5*time.Minute))
			t.Cleanup(cancel)
			e.ctx = ctx
			e.open()
			t.Cleanup(func() { e.close() })
			c.run(e)
		})
	}
}

type suite[Tx any] struct{ h Harness[Tx] }

// env is one test's database.
type env[Tx any] struct {
	*testing.T
	Database[Tx]
	h      Harness[Tx]
	dir    string
	ctx    context.Context
	opened bool
	begun  []Tx
}

func (e *env[Tx]) open() {
	e.Helper()
	e.Database = e.h.Open(e.T, e.dir)
	e.opened = true
}

func (e *env[Tx]) close() {
	e.Helper()
	if e.opened {
		e.opened = false
		for i := len(e.begun) - 1; i >= 0 && e.Failed(); i-- { // Close may wait for what a case left open
			_ = e.DB.Rollback(context.WithoutCancel(e.ctx), e.begun[i])
		}
		e.begun = nil
		e.must(e.Close())
	}
}

// needs ends a case that needs a function which the harness does not have.
func (e *env[Tx]) needs(hook string, there bool) {
	e.Helper()
	if there {
		return
	}
	if why := e.h.KnownGaps[hook]; why != "" {
		e.Skip("declared gap: " + why)
	}
	e.Fatalf("the harness has no %s: add it, or say in KnownGaps why there can be none", hook)
}

func (e *env[Tx]) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *env[Tx]) is(err, want error, doing string) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("%s: %v, want %v", doing, err, want)
	}
}

func (e *env[Tx]) begin() Tx {
	e.Helper()
	tx, err := e.DB.Begin(e.ctx)
	e.must(err)
	e.begun = append(e.begun, tx)
	return tx
}

// again reports whether a transaction is to be run again.
func (e *env[Tx]) again(err error) bool { return err != nil && e.Again != nil && e.Again(err) }

// put commits messages.
func (e *env[Tx]) put(ms ...*driver.Message) {
	e.Helper()
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Messages: ms}))
}

// lead takes the lease of the only shard that the tests use.
func (e *env[Tx]) lead() store.Term {
	e.Helper()
	return e.leadFor(time.Minute)
}

func (e *env[Tx]) leadFor(ttl time.Duration) store.Term {
	e.Helper()
	t, err := store.Lead(e.ctx, e.DB, 0, "leader", ttl)
	e.must(err)
	_, err = e.DB.Resume(e.ctx, t, "catalog")
	if ttl >= time.Second {
		e.must(err)
	}
	return t
}

// passed waits until what was taken for ttl, just now, has passed by the clock of
// the store: that begins to count only when the question has come there.
func (e *env[Tx]) passed(ttl time.Duration) {
	e.Helper()
	select {
	case <-time.After(ttl + 2*time.Millisecond):
	case <-e.ctx.Done():
		e.Fatal(e.ctx.Err())
	}
}

var everything = store.Limit{Rows: 100_000, Bytes: 1 << 30}

// next reads everything after a position.
func (e *env[Tx]) next(t store.Term, after store.Position) []store.Row {
	e.Helper()
	page, err := e.DB.Next(e.ctx, t, after, store.Position{}, everything)
	e.must(err)
	return page.Rows
}

func ids(rows []store.Row) []string {
	all := []string{}
	for _, r := range rows {
		all = append(all, r.Message.ID)
	}
	return all
}

func heldIDs(rows []store.Held) []string {
	all := []string{}
	for _, r := range rows {
		all = append(all, r.Message.ID)
	}
	return all
}

// message is a small message; key may be empty.
func message(id, channel, key string) *driver.Message {
	return &driver.Message{
		ID: id, Channel: channel, Key: key, Source: "catalog", Type: "catalog.counted.v1",
		Time: time.Now().UTC().Truncate(time.Microsecond), ContentType: "application/json", Body: []byte(`"` + id + `"`),
	}
}

// messages are numbered, all with one key.
func messages(n int, channel, key string) []*driver.Message {
	all := make([]*driver.Message, n)
	for i := range all {
		all[i] = message(fmt.Sprintf("%s-%03d", key, i), channel, key)
	}
	return all
}

func (e *env[Tx]) same(got, want any, what string) {
	e.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		e.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}
