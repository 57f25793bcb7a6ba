package drivertest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/filebus"
)

// isProgram is the first argument of a process that stands in for a program in
// another language; its directory and channels follow.
const isProgram = "a-program"

// program does what drivertest.Program says, but for one defect.
func program(ctx context.Context, dir, from, to, defect string) error {
	c, err := filebus.Open(ctx, filebus.Options{Dir: dir, Sync: filebus.SyncOS})
	if err != nil {
		return err
	}
	page, err := c.Browse(ctx, from, "", 1)
	if err != nil || len(page) == 0 {
		return fmt.Errorf("browse: %d messages, %w", len(page), err)
	}
	m := page[0].Message
	for _, h := range append(driver.AppendAttributes(nil, "ce-", m, true), m.Headers...) {
		if defect != "reads no "+h.Name {
			fmt.Printf("header %s\t%s\n", h.Name, h.Value)
		}
	}
	fmt.Printf("body\t%s\n", m.Body)
	out := &driver.Message{Channel: to, ID: "go/1", Source: "/go", Type: "ordering.order-placed.v1", ContentType: "application/json", Key: "17850",
		Time: time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC), Headers: driver.Headers{{Name: "ce-extension", Value: "kept"}}, Body: m.Body}
	switch defect {
	case "sends another key":
		out.Key = "17851"
	case "sends no header":
		out.Headers = nil
	case "sends no body":
		out.Body = nil
	}
	if err := c.Send(ctx, []*driver.Message{out}); err != nil {
		return err
	}
	return c.Close(ctx)
}

// TestProgram is what TestInterop runs in processes of their own.
func TestProgram(t *testing.T) {
	defect, ok := os.LookupEnv("DRIVERTEST_PROGRAM")
	if !ok {
		return
	}
	e := newShaky(t, driver.Conn.Send)
	drivertest.Interop(t, drivertest.Harness{Open: e.open}, drivertest.Program{
		Name: "go", Command: []string{os.Args[0], isProgram, defect, e.dir}, Partitions: 1,
		Prefix: "ce-", ContentType: "header ce-datacontenttype", Repeats: true,
		Key: "17850", Headers: driver.Headers{{Name: "ce-extension", Value: "kept"}},
	})
}

func TestInterop_finds_every_defect(t *testing.T) {
	for defect, says := range map[string]string{
		"": "", "reads no ce-id": "the program read", "reads no tag": "the program read", "reads no ce-datacontenttype": "the program read",
		"sends another key": "it came as", "sends no body": "it came as", "sends no header": "its headers are",
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProgram$")
		cmd.Env = append(os.Environ(), "DRIVERTEST_PROGRAM="+defect)
		out, err := cmd.CombinedOutput()
		if (err != nil) != (defect != "") || !strings.Contains(string(out), says) {
			t.Errorf("a program that %s: %v\n%s", defect, err, out)
		}
	}
}
