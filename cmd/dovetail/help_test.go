package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestEvery_command_has_help_with_an_example(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" || cmd.Name() == "help" {
			return
		}
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			if cmd.Short == "" || !strings.Contains(cmd.Example, "dovetail") {
				t.Errorf("short %q, example %q", cmd.Short, cmd.Example)
			}
			var out, errOut bytes.Buffer
			args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
			if code := run(context.Background(), args, strings.NewReader(""), &out, &errOut); code != 0 {
				t.Fatalf("exit code %d: %s", code, &errOut)
			}
			for _, part := range []string{"Usage:", "Examples:", cmd.Example} {
				if !strings.Contains(out.String(), part) {
					t.Errorf("help lacks %q", part)
				}
			}
		})
		for _, c := range cmd.Commands() {
			visit(c)
		}
	}
	visit(newApp(nil, nil, nil).root())
}
