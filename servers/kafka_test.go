package servers

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
	"time"
)

func TestKafka_keeps_what_it_acknowledged_before_a_kill(t *testing.T) {
	t.Parallel()
	s := Start(t, Kafka)
	if !strings.HasPrefix(s.URL(), "kafka://127.0.0.1:") || s.Version() != kafkaVersion {
		t.Errorf("URL %q, version %q", s.URL(), s.Version())
	}
	const createTopics, produce, fetch = 19, 0, 1
	ask(t, s, createTopics, 2, cat(u32(1), str("kept"), u32(1), u16(1), u32(0), u32(0), u32(10000), []byte{0}))
	records := kafkaBatch("a message")
	const noTransaction, allReplicas = 0xffff, 0xffff
	const unknownTopic, leaderNotAvailable, notLeader = 3, 5, 6 // the topic is made before it has a leader
	var answer []byte
	began := time.Now()
	for retry := time.NewTicker(50 * time.Millisecond); ; <-retry.C {
		answer = ask(t, s, produce, 3, cat(u16(noTransaction), u16(allReplicas), u32(10000),
			u32(1), str("kept"), u32(1), u32(0), u32(uint32(len(records))), records))
		code := binary.BigEndian.Uint16(answer[4+2+4+4+4:])
		if code == 0 {
			break
		}
		if code != unknownTopic && code != leaderNotAvailable && code != notLeader || time.Since(began) > 20*time.Second {
			t.Fatalf("produce: error %d", code)
		}
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer = ask(t, s, fetch, 4, cat(u32(0xffffffff), u32(10000), u32(1), u32(1<<20), []byte{0},
		u32(1), str("kept"), u32(1), u32(0), u64(0), u32(1<<20)))
	if !bytes.Contains(answer, []byte("a message")) {
		t.Errorf("after a kill and a restart a fetch answers %q", answer)
	}
}

func ask(t *testing.T, s *Server, api, version uint16, body []byte) []byte {
	t.Helper()
	conn, err := dial(t.Context(), s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := kafkaAsk(conn, api, version, body)
	if err != nil {
		t.Fatalf("API %d: %v", api, err)
	}
	return answer
}

// kafkaBatch is a record batch of format 2 with one value.
func kafkaBatch(value string) []byte {
	record := cat([]byte{0, 0, 0, 1, byte(2 * len(value))}, []byte(value), []byte{0}) // no key; numbers are zigzag
	now := uint64(time.Now().UnixMilli())
	rest := cat(u16(0), u32(0), u64(now), u64(now), u64(1<<64-1), u16(0xffff), u32(0xffffffff), u32(1),
		append([]byte{byte(2 * len(record))}, record...))
	sum := crc32.Checksum(rest, crc32.MakeTable(crc32.Castagnoli))
	tail := cat(u32(0), []byte{2}, u32(sum), rest)
	return cat(u64(0), u32(uint32(len(tail))), tail)
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
func u16(n uint16) []byte        { return binary.BigEndian.AppendUint16(nil, n) }
func u32(n uint32) []byte        { return binary.BigEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte        { return binary.BigEndian.AppendUint64(nil, n) }
func str(s string) []byte        { return append(u16(uint16(len(s))), s...) }
