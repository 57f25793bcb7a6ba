package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/examples/eshop/shop"
)

// asProgram has the test binary be the program itself, also for the processes
// that it starts.
const asProgram = "ESHOP_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// eshop runs the program.
func eshop(t *testing.T, input string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdin = strings.NewReader(input)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// balance runs the program to the end and returns the balance, which must hold.
func balance(t *testing.T, args ...string) *shop.Balance {
	t.Helper()
	stdout, stderr, code := eshop(t, "", append(args, "--once", "-o", "json")...)
	var b shop.Balance
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != exitDone {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	return &b
}

func TestEshop_prints_the_balance_for_programs(t *testing.T) {
	stdout, stderr, code := eshop(t, "", "--once", "--invoices", "80", "-o", "json")
	if code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	var keys map[string]any
	if err := json.Unmarshal([]byte(stdout), &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"lines", "unusable", "placed", "completed", "refused", "cancelled", "sent", "handled",
		"redelivered", "kills", "lost", "double", "balanced"} {
		if _, ok := keys[key]; !ok {
			t.Errorf("no key %q in\n%s", key, stdout)
		}
	}
	if keys["balanced"] != true || keys["lost"] != 0.0 || keys["double"] != 0.0 {
		t.Errorf("it does not balance:\n%s", stdout)
	}
	if !strings.Contains(stderr, "unusable line") {
		t.Errorf("no line was reported as unusable:\n%s", stderr)
	}
}

func TestEshop_prints_the_balance_for_people(t *testing.T) {
	const file = "StockCode\tUnitPrice\tInvoice\tQuantity\nA\t2,50\t1\t2\nA\t2,50\t1\tmany\nA\t2,50\tC2\t-1\n"
	stdout, stderr, code := eshop(t, file, "--once", "--orders", "-")
	if code != exitDone || !strings.Contains(stdout, "It balances.") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if !strings.Contains(stderr, `line 3: Quantity "many" is no number`) {
		t.Errorf("line 3 was not reported:\n%s", stderr)
	}
	for _, want := range []string{"2.50", "5.00 charged", "2.50 refunded"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
}

func TestEshop_says_how_it_is_used(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"--help", exitDone, "Examples:"},
		{"-h", exitDone, "--kill-every"},
		{"--bogus", exitUsage, "-bogus"},
		{"orders.csv", exitUsage, "--orders"},
		{"--kill-every 1ms", exitUsage, "10ms"},
		{"--kill-every soon", exitUsage, "kill-every"},
		{"--dates ymd", exitUsage, "dmy or mdy"},
		{"-o xml", exitUsage, "table or json"},
		{"--invoices 0", exitUsage, "1 to 100000"},
		{"--in-flight 0", exitUsage, "1 to 10000"},
		{"--orders x --invoices 3", exitUsage, "built-in"},
		{"--keep --dir x", exitUsage, "--dir is kept"},
		{"--once --orders /does/not/exist.csv", exitFailed, "no such file"},
		{"--once --orders .", exitFailed, "directory"},
		{"--once --orders -", exitFailed, "empty"},
		{"serve catalog catalog-1 x", exitFailed, "eshop --help"},
	} {
		stdout, stderr, code := eshop(t, "", strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("eshop %s: exit code %d, want %d and something about %q\n%s%s", tt.args, code, tt.code, tt.want, stdout, stderr)
		}
	}
}
