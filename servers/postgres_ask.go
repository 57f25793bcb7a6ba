package servers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// postgresAsk opens a session, runs one statement and returns the first value of
// its last row as text, and the server's version.
func postgresAsk(ctx context.Context, in *Instance, query string) (answer, version string, err error) {
	answers, version, err := postgresAskAll(ctx, in, query)
	if err != nil {
		return "", "", err
	}
	return answers[0], version, nil
}

// postgresAskAll runs statements in one session, each by itself, and returns the
// first value of the last row of each.
func postgresAskAll(ctx context.Context, in *Instance, statements ...string) (answers []string, version string, err error) {
	conn, err := dial(ctx, in.Addr("postgres"))
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	const protocol = 3 << 16
	start := binary.BigEndian.AppendUint32(nil, protocol)
	start = append(start, "user\x00postgres\x00database\x00postgres\x00\x00"...)
	start = append(binary.BigEndian.AppendUint32(nil, uint32(4+len(start))), start...)
	if _, err := conn.Write(start); err != nil {
		return nil, "", err
	}
	if _, version, err = postgresUntilReady(conn); err != nil {
		return nil, "", err
	}
	for _, text := range statements {
		ask := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(text)+1))
		if _, err := conn.Write(append(append(ask, text...), 0)); err != nil {
			return nil, "", err
		}
		answer, _, err := postgresUntilReady(conn)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", text, err)
		}
		answers = append(answers, answer)
	}
	_, _ = conn.Write([]byte{'X', 0, 0, 0, 4}) // Terminate, or the server's log complains
	return answers, version, nil
}

// postgresUntilReady reads messages up to ReadyForQuery.
func postgresUntilReady(r io.Reader) (answer, version string, err error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return "", "", err
		}
		n := binary.BigEndian.Uint32(head[1:])
		if n < 4 || n > 1<<20 {
			return "", "", fmt.Errorf("a message of %d bytes: something else listens there", n)
		}
		body := make([]byte, n-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return "", "", err
		}
		fields := strings.Split(string(body), "\x00")
		switch head[0] {
		case 'Z':
			return answer, version, nil
		case 'E':
			return "", "", fmt.Errorf("it says %s", strings.Join(fields, " "))
		case 'D':
			if answer, err = firstValue(body); err != nil {
				return "", "", err
			}
		case 'S':
			if fields[0] == "server_version" {
				version, _, _ = strings.Cut(fields[1], " ")
			}
		}
	}
}

// firstValue is the first value of a row, "" for NULL.
func firstValue(row []byte) (string, error) {
	const head = 2 + 4 // how many values, and how long the first is
	if len(row) < head {
		return "", errors.New("a row without a value: something else listens there")
	}
	n := int32(binary.BigEndian.Uint32(row[2:]))
	switch {
	case n < 0:
		return "", nil
	case int(n) > len(row)-head:
		return "", errors.New("a row that ends early: something else listens there")
	}
	return string(row[head : head+n]), nil
}
