package storetest_test

import (
	"cmp"

	"github.com/dovetail-go/dovetail/store"
)

func bySeq(a, b sideRow) int { return cmp.Compare(a.seq, b.seq) }

func byTransaction(a, b sideRow) int {
	return cmp.Or(cmp.Compare(a.xid, b.xid), cmp.Compare(a.seq, b.seq))
}

// behind reports whether a row comes after a position of (transaction, number).
func behind(r sideRow, after store.Position) bool {
	return byTransaction(r, sideRow{xid: after.Window, seq: after.Seq}) > 0
}

// Readers that look right, and that a database's own numbers suggest.
var readerMutants = map[string]mutant{
	"reads seq > last": {by: "Next_loses_nothing_of_a_transaction_that_commits_late", side: func(s *sides) {
		s.reader = func(s *sides, after store.Position) []sideRow {
			return s.visible(func(r sideRow) bool { return r.seq > after.Seq }, bySeq)
		}
	}},
	"reads (xid, seq) > last": {by: "Next_loses_nothing_of_a_transaction_that_commits_late", side: func(s *sides) {
		s.reader = func(s *sides, after store.Position) []sideRow {
			return s.visible(func(r sideRow) bool { return behind(r, after) }, byTransaction)
		}
	}},
	"reads (xid, seq) below the lowest transaction that is open": {by: "Next_keeps_the_order_of_a_lock_whoever_began_first", side: func(s *sides) {
		s.reader = func(s *sides, after store.Position) []sideRow {
			lowest := s.xmin()
			return s.visible(func(r sideRow) bool { return behind(r, after) && r.xid < lowest }, byTransaction)
		}
	}},
	"reads seq > last below the lowest transaction that is open": {by: "Next_loses_nothing_of_a_transaction_that_commits_late", side: func(s *sides) {
		s.reader = func(s *sides, after store.Position) []sideRow { // a row with a low number of a transaction with a high one
			lowest := s.xmin()
			return s.visible(func(r sideRow) bool { return r.seq > after.Seq && r.xid < lowest }, bySeq)
		}
	}},
	"reads no further than the first gap": {by: "Next_does_not_wait_for_what_was_rolled_back", side: func(s *sides) {
		s.reader = func(s *sides, after store.Position) []sideRow {
			all := s.visible(func(r sideRow) bool { return r.seq > after.Seq }, bySeq)
			for i, r := range all {
				if r.seq != after.Seq+int64(i)+1 {
					return all[:i]
				}
			}
			return all
		}
	}},
}
