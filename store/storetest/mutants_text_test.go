package storetest_test

import (
	"bytes"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// storing changes messages as they are written.
func storing(change func(*driver.Message)) func(*lab) {
	return func(l *lab) { l.stores = change }
}

func cut(s *string, n int) { *s = (*s)[:min(n, len(*s))] }

const (
	wholeCase     = "Ids_keys_and_bodies_are_kept_whole"
	roundtripCase = "Message_comes_back_as_it_was"
	noTextCase    = "Text_that_is_none_comes_back_as_it_was_or_is_refused"
	dueCase       = "Due_times_of_all_centuries_are_kept"
)

// Faults in what is kept of a message.
var textMutants = map[string]mutant{
	"cuts ids at 255 bytes":     {by: wholeCase, plant: storing(func(m *driver.Message) { cut(&m.ID, 255) })},
	"cuts keys at 255 bytes":    {by: wholeCase, plant: storing(func(m *driver.Message) { cut(&m.Key, 255) })},
	"cuts sources at 100 bytes": {by: wholeCase, plant: storing(func(m *driver.Message) { cut(&m.Source, 100) })},
	"cuts types at 100 bytes":   {by: wholeCase, plant: storing(func(m *driver.Message) { cut(&m.Type, 100) })},
	"cuts bodies at 1 MiB":      {by: wholeCase, plant: storing(func(m *driver.Message) { m.Body = m.Body[:min(1<<20, len(m.Body))] })},
	"cuts the last byte of an id of 512": {by: wholeCase, plant: func(l *lab) {
		l.keys = func(k *store.Key) { cut(&k.ID, driver.MaxID-1) }
	}},
	"cuts header values at 4 KiB": {by: wholeCase, plant: storing(func(m *driver.Message) {
		for i := range m.Headers {
			cut(&m.Headers[i].Value, 4096)
		}
	})},
	"keeps one header of a name": {by: roundtripCase, plant: storing(func(m *driver.Message) {
		m.Headers = slices.CompactFunc(m.Headers, func(a, b driver.Header) bool { return a.Name == b.Name })
	})},
	"folds the case of header names": {by: roundtripCase, plant: storing(func(m *driver.Message) {
		for i := range m.Headers {
			m.Headers[i].Name = strings.ToLower(m.Headers[i].Name)
		}
	})},
	"takes a body for text":                   {by: roundtripCase, plant: storing(func(m *driver.Message) { m.Body = bytes.ToValidUTF8(m.Body, []byte("?")) })},
	"keeps times in seconds":                  {by: roundtripCase, plant: storing(func(m *driver.Message) { m.Time = m.Time.Truncate(time.Second) })},
	"keeps no time-out":                       {by: roundtripCase, plant: storing(func(m *driver.Message) { m.Timeout = 0 })},
	"keeps not where a reply goes":            {by: roundtripCase, plant: storing(func(m *driver.Message) { m.ReplyTo = "" })},
	"keeps not what a message is a result of": {by: roundtripCase, plant: storing(func(m *driver.Message) { m.CorrelationID, m.CausationID = "", "" })},
	"keeps not that a message is transient":   {by: roundtripCase, plant: storing(func(m *driver.Message) { m.Transient = false })},
	"gives a message without a type one": {by: roundtripCase, plant: storing(func(m *driver.Message) {
		m.Type = strings.TrimSpace(m.Type + " ")
		if m.Type == "" {
			m.Type = "unknown"
		}
	})},
	"writes a header with a line break": {by: "Message_with_a_line_break_in_a_header_is_refused", plant: storing(func(m *driver.Message) {
		for i := range m.Headers {
			m.Headers[i].Value = strings.ReplaceAll(m.Headers[i].Value, "\n", " ")
		}
	})},
	"makes text valid that is none": {by: noTextCase, plant: storing(func(m *driver.Message) {
		m.Key, m.ID = strings.ToValidUTF8(m.Key, "\uFFFD"), strings.ToValidUTF8(m.ID, "\uFFFD")
	})},
	"cuts text at a NUL": {by: noTextCase, plant: storing(func(m *driver.Message) { m.Key, _, _ = strings.Cut(m.Key, "\x00") })},
	"makes header text valid that is none": {by: noTextCase, plant: storing(func(m *driver.Message) {
		for i := range m.Headers {
			m.Headers[i].Value = strings.ToValidUTF8(m.Headers[i].Value, "\uFFFD")
		}
	})},
	"cuts an id of the inbox at what is no text": {by: noTextCase, plant: func(l *lab) {
		l.keys = func(k *store.Key) {
			for i, r := range k.ID {
				if r == utf8.RuneError || r == 0 {
					k.ID = k.ID[:i]
					return
				}
			}
		}
	}},
	"writes a due time that it cannot read again": {by: dueCase, plant: storing(func(m *driver.Message) {
		if m.Due.Year() > 9999 {
			m.Due = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
		}
	})},
	"wraps due times beyond 2038": {by: dueCase, plant: storing(func(m *driver.Message) {
		if !m.Due.IsZero() {
			m.Due = time.Unix(int64(int32(m.Due.Unix())), int64(m.Due.Nanosecond())).UTC()
		}
	})},
	"wraps due times beyond 2106": {by: dueCase, plant: storing(func(m *driver.Message) {
		if m.Due.Year() > 1970 {
			m.Due = time.Unix(int64(uint32(m.Due.Unix())), int64(m.Due.Nanosecond())).UTC()
		}
	})},
	"keeps due times in seconds": {by: dueCase, plant: storing(func(m *driver.Message) { m.Due = m.Due.Truncate(time.Second) })},
}
