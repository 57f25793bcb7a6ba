package house

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// base is a small repository that keeps every rule.
func base() map[string]string {
	const mod = "github.com/dovetail-go/dovetail"
	return map[string]string{
		"go.work":       "go 1.26.0\n\nuse (\n\t.\n\t./cmd/dovetail\n\t./transport/xbus\n\t./transport/xbus/embedded\n)\n",
		"go.mod":        "module " + mod + "\n\ngo 1.26.0\n",
		"doc.go":        "// Package dovetail is here.\npackage dovetail\n\nimport _ \"" + mod + "/driver\"\n",
		"driver/doc.go": "// Package driver is here.\npackage driver\n\nimport _ \"context\"\n",
		"internal/a.go": "// Package internal is here.\npackage internal\n\n// A is; B, too.\nfunc A() {}\nfunc B() {}\n",
		"transport/xbus/go.mod": "module " + mod + "/transport/xbus\n\ngo 1.26.0\n\nrequire (\n\t" + mod + " v0.0.0\n\texample.com/x v1.0.0\n)\n\nreplace " +
			mod + " => ../..\n",
		"transport/xbus/x.go": "// Package xbus is here.\npackage xbus\n\nimport (\n\t_ \"" + mod + "/driver\"\n\t_ \"example.com/x\"\n)\n",
		"transport/xbus/embedded/go.mod": "module " + mod + "/transport/xbus/embedded\n\ngo 1.26.0\n\nrequire (\n\t" + mod + " v0.0.0\n\t" + mod +
			"/transport/xbus v0.0.0\n)\n\nreplace (\n\t" + mod + " => ../../..\n\t" + mod + "/transport/xbus => ..\n)\n",
		"transport/xbus/embedded/e.go": "// Package embedded is here.\npackage embedded\n\nimport _ \"" + mod + "/transport/xbus\"\n",
		"cmd/dovetail/go.mod": "module " + mod + "/cmd/dovetail\n\ngo 1.26.0\n\nrequire (\n\t" + mod + " v0.0.0\n\t" + mod +
			"/transport/xbus v0.0.0\n)\n\nreplace " + mod + " => ../..\n\nreplace " + mod + "/transport/xbus => ../../transport/xbus\n",
		"cmd/dovetail/main.go":     "// Dovetail is the program.\npackage main\n\nimport _ \"" + mod + "/transport/xbus\"\n\nfunc main() {}\n",
		"README.md":                "# R\n\n[doc](doc.go) <https://example.com>\n\n```\na[0](gone)\n```\n<!-- from: doc.go -->\n```go\n// Package dovetail is here.\npackage dovetail\n\nimport _ \"" + mod + "/driver\"\n```\n\n",
		"internal/crash/points.go": "// Package crash is here.\npackage crash\n\n// All.\nvar (\n\tSent = point(Relay, \"sent\", \"a\", \"b\")\n\tMoving = point(Relay, \"moving\", \"a\", \"b\")\n)\n",
		"store/step.go":            "// Package store is here.\npackage store\n\n// Moving is.\nvar Moving = Step{crash.Moving}\n",
		"store/storetest/kill.go":  "// Package storetest is here.\npackage storetest\n\nfunc kill() { points(crash.Relay) }\n",
		"inbox/relay.go":           "// Package inbox is here.\npackage inbox\n\nfunc relay() { crash.Sent.Pass() }\n",
		"transport/xbus/move.go":   "package xbus\n\nfunc move() { store.Moving.Pass() }\n",
		"transport/xbus/s_test.go": "package xbus\n\nvar steps = []any{store.Moving}\n",
		"docs/a.md":                "```go\nimport _ \"" + mod + "/driver\"\n\nx, err := internal.A()\n```\n",
	}
}

func findings(t *testing.T, files map[string]string) map[string][]Finding {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		if text != "" {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	found, err := Check(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestRules_are_silent_about_a_sound_repository(t *testing.T) {
	if found := findings(t, base()); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestRules_find_what_breaks_them(t *testing.T) {
	const mod = "github.com/dovetail-go/dovetail"
	add := func(suffix string) func(string) string { return func(s string) string { return s + suffix } }
	set := func(text string) func(string) string { return func(string) string { return text } }
	tests := []struct {
		rule string
		file string
		edit func(string) string
		want string // "path: part of the text"
	}{
		{"every file parses", "driver/x.go", set("package"), "driver/x.go: driver/x.go:1:8: expected"},
		{"imports run one way", "driver/x.go", set("package driver\n\nimport _ \"" + mod + "\"\n"), "driver/x.go:3: imports " + mod + ": driver may not know of dovetail"},
		{"imports run one way", "x.go", set("package dovetail\n\nimport _ \"" + mod + "/outbox\"\n"), "x.go:3: imports"},
		{"imports run one way", "internal/x.go", set("package internal\n\nimport _ \"" + mod + "\"\n"), "internal/x.go:3: imports"},
		{"imports run one way", "transport/xbus/y.go", set("package xbus\n\nimport _ \"" + mod + "/cmd/dovetail\"\n"), "transport/xbus/y.go:3: imports"},
		{"the root module imports the standard library only", "x.go", set("package dovetail\n\nimport _ \"example.com/x\"\n"), "x.go:3: imports example.com/x"},
		{"the root module imports the standard library only", "x_test.go", set("package dovetail\n\nimport _ \"" + mod + "/transport/xbus\"\n"), "x_test.go:3: imports"},
		{"the root module imports the standard library only", "go.mod", add("\nrequire example.com/x v1.0.0\n"), "go.mod:5: requires example.com/x"},
		{"satellites know the root only", "transport/xbus/y.go", set("package xbus\n\nimport _ \"" + mod + "/internal\"\n"), "transport/xbus/y.go:3: imports"},
		{"satellites know the root only", "transport/xbus/y.go", set("package xbus\n\nimport _ \"" + mod + "/transport/xbus/embedded\"\n"), "transport/xbus/y.go:3: imports"},
		{"a go.mod where third-party code is imported, and only there", "transport/xbus/x.go", set("// Package xbus is here.\npackage xbus\n"), "transport/xbus/go.mod: no code"},
		{"siblings are replaced by their directories", "transport/xbus/go.mod", set("module " + mod + "/transport/xbus\n\ngo 1.26.0\n\nrequire " + mod + " v0.0.0\n"), "transport/xbus/go.mod:5: reaches " + mod + ":"},
		{"siblings are replaced by their directories", "cmd/dovetail/main_test.go", set("package main\n\nimport _ \"" + mod + "/transport/xbus/embedded\"\n"), "cmd/dovetail/go.mod: reaches"},
		{"every module is in the workspace", "go.work", set("go 1.26.0\n\nuse .\n"), "cmd/dovetail/go.mod: is not in go.work"},
		{"every module is in the workspace", "tools/go.mod", set("module tools\n"), "tools/go.mod:1: is module tools"},
		{"package names say something", "helpers/x.go", set("// Package helpers is here.\npackage helpers\n"), "helpers: package helpers"},
		{"nothing sleeps", "x_test.go", set("package dovetail\n\nimport \"time\"\n\nfunc x() { time.Sleep(1) }\n"), "x_test.go:5: time.Sleep"},
		{"files have one subject", "x.go", set("package dovetail\n" + strings.Repeat("\n", MaxLines)), "x.go: 501 lines"},
		{"exported names are documented", "x.go", set("package dovetail\n\ntype T struct{}\n\nfunc (*T) M() {}\n"), "x.go:3: exported type T"},
		{"exported names are documented", "x.go", set("package dovetail\n\nconst C = 1\n"), "x.go:3: exported const C"},
		{"exported names are documented", "x.go", set("package dovetail\n\n// A is.\nfunc A() {}\nfunc B() {}\n"), "x.go:5: exported function B"},
		{"exported names are documented", "outbox/x.go", set("package outbox\n"), "outbox: package outbox has 0 package comments"},
		{"errors read well", "x.go", set("package dovetail\n\nimport \"errors\"\n\nvar e = errors.New(\"failed to win\")\n"), "x.go:5: error text"},
		{"errors read well", "x.go", set("package dovetail\n\nimport \"fmt\"\n\nvar e = fmt.Errorf(\"oh no!\")\n"), "x.go:5: error text"},
		{"nothing is left for later", "x.go", set("package dovetail\n\n// FIX" + "ME: all of it.\n"), "x.go:3: FIX" + "ME"},
		{"every crash point is passed and killed at", "inbox/relay.go", set("// Package inbox is here.\npackage inbox\n"), "internal/crash/points.go:6: Sent is never passed"},
		{"every crash point is passed and killed at", "transport/xbus/move.go", set("package xbus\n"), "internal/crash/points.go:7: Moving is never passed"},
		{"every crash point is passed and killed at", "store/storetest/kill.go", set("// Package storetest is here.\npackage storetest\n"), "internal/crash/points.go:6: Sent: no test kills at the points of crash.Relay"},
		{"every crash point is passed and killed at", "transport/xbus/s_test.go", set("package xbus\n"), "transport/xbus/move.go: passes store.Moving"},
		{"every crash point is passed and killed at", "internal/crash/points.go", func(s string) string { return strings.ReplaceAll(s, "\"a\"", "\"\"") }, "internal/crash/points.go:6: Sent does not say"},
		{"code in documents is compiled code", "README.md", add("\n```go\n" + strings.Repeat("f()\n", maxUsage+1) + "```\n"), "README.md:18: 9 lines of Go that nothing compiles"},
		{"code in documents is compiled code", "README.md", add("\n```go\nx := := 1\n```\n"), "README.md:18: is no Go"},
		{"code in documents is compiled code", "README.md", add("\n```go\nimport _ \"" + mod + "/gone\"\n```\n"), "README.md:18: imports " + mod + "/gone, which is not there"},
		{"code in documents is compiled code", "README.md", add("\n```go\nerr := internal.Gone()\n```\n"), "README.md:18: uses internal.Gone"},
		{"code in documents is compiled code", "doc.go", add("\nvar x int\n"), "README.md:10: differs from doc.go"},
		{"links in documents lead somewhere", "README.md", add("\n[gone](docs/gone.md#there)\n"), "README.md:17: links to docs/gone.md"},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprintf("%d_%s", i, strings.ReplaceAll(tt.rule, " ", "_")), func(t *testing.T) {
			files := base()
			files[tt.file] = tt.edit(files[tt.file])
			found := findings(t, files)[tt.rule]
			for _, f := range found {
				if strings.HasPrefix(f.String(), tt.want) {
					return
				}
			}
			t.Errorf("want a finding that begins with %q, have %v", tt.want, found)
		})
	}
}

func TestRefresh_writes_copied_code_anew(t *testing.T) {
	fsys := fstest.MapFS{"a.go": {Data: []byte("package a\n\n// F does.\nfunc F() {}\n\nfunc (t *T) G() {}\n\nvar (\n\tx = 1\n)\n")}}
	text := "# T\n\n<!-- from: a.go#F,T.G -->\n```go\nold\n```\n\n```sh\nls\n```\n<!-- from: a.go#x -->\n\n```go\n```\nend\n"
	want := "# T\n\n<!-- from: a.go#F,T.G -->\n```go\n// F does.\nfunc F() {}\n\nfunc (t *T) G() {}\n```\n\n```sh\nls\n```\n<!-- from: a.go#x -->\n\n```go\nvar (\n\tx = 1\n)\n```\nend\n"
	got, err := Refresh(fsys, text)
	if err != nil || got != want {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
	if _, err := Refresh(fsys, "<!-- from: a.go#Gone -->\n```go\n```\n"); err == nil {
		t.Error("a declaration that is not there is no error")
	}
}

func TestRelative_is_the_way_between_directories(t *testing.T) {
	for _, tt := range [][3]string{
		{"cmd/dovetail", ".", "../.."},
		{"bench", ".", ".."},
		{"transport/xbus/embedded", "transport/xbus", ".."},
		{"transport/xbus/embedded", ".", "../../.."},
		{"transport/xbus", "transport/xbus/embedded", "./embedded"},
		{"examples/eshop", "examples/quickstart", "../quickstart"},
		{"examples/eshop", "store/sqlitestore", "../../store/sqlitestore"},
		{"bench", "store/sqlitestore", "../store/sqlitestore"},
	} {
		if got := relative(tt[0], tt[1]); got != tt[2] {
			t.Errorf("from %s to %s: %s, want %s", tt[0], tt[1], got, tt[2])
		}
	}
}
