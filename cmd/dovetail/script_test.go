package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/rogpeppe/go-internal/testscript"
	"gopkg.in/yaml.v3"
)

func TestMain(m *testing.M) {
	testscript.Main(servers.Main(m), map[string]func(){"dovetail": main, "dovetail-faulty": faultyProgram})
}

// TestScripts_on_the_embedded_broker runs the program against dovetail up, each
// script with a broker of its own.
func TestScripts_on_the_embedded_broker(t *testing.T) {
	runScripts(sideBySide{t}, "testdata/both", func(env *testscript.Env) error {
		url, err := startUp(env)
		env.Setenv("DOVETAIL_BROKER", url)
		return err
	})
}

// TestScripts_on_a_directory runs the same scripts over the file transport.
func TestScripts_on_a_directory(t *testing.T) {
	runScripts(sideBySide{t}, "testdata/both", func(env *testscript.Env) error {
		env.Setenv("DOVETAIL_BROKER", "file:"+filepath.Join(env.WorkDir, "bus"))
		return nil
	})
}

// TestScripts_alone need no broker, or start their own.
func TestScripts_alone(t *testing.T) {
	runScripts(sideBySide{t}, "testdata/alone", func(*testscript.Env) error { return nil })
}

func runScripts(t testscript.T, dir string, broker func(*testscript.Env) error) {
	testscript.RunT(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			for _, v := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"} {
				env.Setenv(v, filepath.Join(env.WorkDir, "home"))
			}
			env.Values[serviceKey{}], env.Values[tailKey{}] = &tinyService{}, &tail{}
			return broker(env)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"service": serviceCommand, "repair": repairCommand, "handled": handledCommand, "dead": deadCount,
			"listening": listeningCommand, "parses": parsesCommand, "code": codeCommand, "set": setCommand, "waitfor": waitCommand, "waitfile": waitFileCommand,
			"verdict": verdictCommand, "verifying": verifyingCommand, "written": writtenCommand, "setaside": setAsideCommand, "handledby": handledByCommand,
			"cleared": clearedCommand, "tail": tailCommand, "tailed": tailedCommand, "relations": relationsCommand,
		},
	})
}

// sideBySide runs scripts beside each other.
type sideBySide struct{ *testing.T }

func (t sideBySide) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(sideBySide{t}) })
}
func (sideBySide) Verbose() bool { return testing.Verbose() }

// startUp runs dovetail up until the script ends, and returns where it listens.
func startUp(env *testscript.Env) (url string, err error) {
	cmd := exec.Command("dovetail", "up", "--dir", filepath.Join(env.WorkDir, "up"), "--listen", "127.0.0.1:0", "-o", "json")
	if cmd.Path, err = lookIn(env.Getenv("PATH"), "dovetail"); err != nil {
		return "", err
	}
	cmd.Err = nil
	cmd.Env = env.Vars
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var info upInfo
	err = json.NewDecoder(out).Decode(&info)
	if err != nil {
		_ = cmd.Process.Kill()
		return "", fmt.Errorf("dovetail up: %w, %v: %s", err, cmd.Wait(), said.String())
	}
	env.Defer(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			env.T().Log("dovetail up ended with", err, said.String())
			env.T().FailNow()
		}
	})
	return info.Broker, nil
}

func lookIn(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name), nil
		}
	}
	return "", fmt.Errorf("%s is not in %s", name, path)
}

// parsesCommand: parses json|yaml|jsonlines FILE [N]. The file, or stdout, is
// valid, with N elements or lines.
func parsesCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: parses json|yaml|jsonlines FILE [N]")
	}
	text := ts.ReadFile(args[1])
	n := -1
	switch args[0] {
	case "json":
		var v any
		ts.Check(json.Unmarshal([]byte(text), &v))
		if list, ok := v.([]any); ok {
			n = len(list)
		}
	case "jsonlines":
		n = 0
		for line := range strings.Lines(text) {
			var v any
			ts.Check(json.Unmarshal([]byte(line), &v))
			n++
		}
	case "yaml":
		var v any
		ts.Check(yaml.Unmarshal([]byte(text), &v))
		if list, ok := v.([]any); ok {
			n = len(list)
		}
	default:
		ts.Fatalf("parses %s: want json, yaml or jsonlines", args[0])
	}
	if len(args) == 3 && args[2] != fmt.Sprint(n) {
		ts.Fatalf("%s has %d, want %s", args[1], n, args[2])
	}
}

// codeCommand: code N dovetail ARGS... The program ends with exit code N.
func codeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: code N COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// setCommand: set NAME FILE FIELD. The environment variable gets a string field
// of the JSON in the file, or of its first element.
func setCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: set NAME FILE FIELD")
	}
	var v any
	ts.Check(json.NewDecoder(strings.NewReader(ts.ReadFile(args[1]))).Decode(&v))
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	m, ok := v.(map[string]any)
	if !ok {
		ts.Fatalf("%s holds no object", args[1])
	}
	text, ok := m[args[2]].(string)
	if !ok {
		ts.Fatalf("%s has no string %s: %v", args[1], args[2], m)
	}
	ts.Setenv(args[0], text)
}

// listeningCommand: listening CHANNEL. Waits until a tail listens there.
func listeningCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: listening CHANNEL")
	}
	ctx := context.Background()
	conn, err := driver.Open(ctx, ts.Getenv("DOVETAIL_BROKER"))
	ts.Check(err)
	defer conn.Close(ctx)
	eventually(ts, "a tail of "+args[0], func() bool {
		all, err := conn.(driver.Lister).Channels(ctx)
		ts.Check(err)
		for _, c := range all {
			for _, g := range c.Groups {
				if c.Channel.Name == args[0] && strings.HasPrefix(g.Name, "dovetail-tail") {
					return true
				}
			}
		}
		return false
	})
}

// waitCommand: waitfor contexts.json. Waits until a context was saved.
func waitCommand(ts *testscript.TestScript, neg bool, args []string) {
	path := filepath.Join(ts.Getenv("XDG_CONFIG_HOME"), "dovetail", args[0])
	eventually(ts, path, func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// waitFileCommand: waitfile FILE. Waits until there is something in it.
func waitFileCommand(ts *testscript.TestScript, neg bool, args []string) {
	eventually(ts, args[0], func() bool {
		info, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil && info.Size() > 0
	})
}

// eventually waits for something that another process does.
func eventually(ts *testscript.TestScript, what string, ok func() bool) {
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("timed out waiting for %s", what)
		}
	}
}
