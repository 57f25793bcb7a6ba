package main

import (
	"archive/zip"
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dovetail-go/dovetail/internal/house"
)

// events is what go test -json says of four packages: one that passes, one with
// a failure and a skip, one that does not build, one whose process dies.
const events = `
{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestA"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"noise of TestA\n"}
{"Action":"pass","Package":"m/a","Test":"TestA","Elapsed":0.5}
{"Action":"output","Package":"m/a","Output":"PASS\n"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.5s\n"}
{"Action":"pass","Package":"m/a","Elapsed":0.5}
{"Action":"run","Package":"m/x/b","Test":"TestB"}
{"Action":"run","Package":"m/x/b","Test":"TestB/sub"}
{"Action":"output","Package":"m/x/b","Test":"TestB/sub","Output":"b_test.go:7: wrong\n"}
{"Action":"fail","Package":"m/x/b","Test":"TestB/sub","Elapsed":0}
{"Action":"output","Package":"m/x/b","Test":"TestB","Output":"--- FAIL: TestB\n"}
{"Action":"fail","Package":"m/x/b","Test":"TestB","Elapsed":0}
{"Action":"run","Package":"m/x/b","Test":"TestS"}
{"Action":"output","Package":"m/x/b","Test":"TestS","Output":"    b_test.go:9: no server here\n"}
{"Action":"skip","Package":"m/x/b","Test":"TestS","Elapsed":0}
{"Action":"run","Package":"m/x/b","Test":"TestG"}
{"Action":"output","Package":"m/x/b","Test":"TestG","Output":"    b_test.go:11: server: broker 3.1\n"}
{"Action":"output","Package":"m/x/b","Test":"TestG","Output":"    b_test.go:12: declared gap: it has no delay\n"}
{"Action":"skip","Package":"m/x/b","Test":"TestG","Elapsed":0}
{"Action":"output","Package":"m/x/b","Output":"FAIL\tm/x/b\t0.1s\n"}
{"Action":"fail","Package":"m/x/b","Elapsed":0.1}
{"ImportPath":"m/c","Action":"build-output","Output":"c.go:1: no such thing\n"}
{"ImportPath":"m/c","Action":"build-fail"}
{"Action":"output","Package":"m/c","Output":"FAIL\tm/c [build failed]\n"}
{"Action":"fail","Package":"m/c","Elapsed":0,"FailedBuild":"m/c"}
{"Action":"run","Package":"m/d","Test":"TestD"}
{"Action":"output","Package":"m/d","Test":"TestD","Output":"=== RUN   TestD\n"}
{"Action":"output","Package":"m/d","Test":"TestD","Output":"panic: died\n"}
{"Action":"output","Package":"m/d","Output":"FAIL\tm/d\t0.1s\n"}
{"Action":"fail","Package":"m/d","Elapsed":0.1}
`

func TestResults_count_what_go_test_says(t *testing.T) {
	root := &house.Module{ModFile: house.ModFile{Path: "m"}, Dir: "."}
	sat := &house.Module{ModFile: house.ModFile{Path: "m/x"}, Dir: "x"}
	var shown bytes.Buffer
	res := resultsOf(&shown, []*house.Module{root, sat})
	res.checks = tally{run: 2, passed: 2}
	if err := res.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	got, want := *res.tallies[root], tally{run: 3, passed: 1, failed: 2}
	got.took = 0
	if got != want {
		t.Errorf("root: %+v, want %+v", got, want)
	}
	got, want = *res.tallies[sat], tally{run: 4, failed: 3, gaps: 1}
	got.took = 0
	if got != want {
		t.Errorf("satellite: %+v, want %+v", got, want)
	}
	res.write(&shown)
	out := shown.String()
	for _, want := range []string{
		"ok  \tm/a\t0.5s\n", "b_test.go:7: wrong\n", "--- FAIL: TestB\n", "FAIL\tm/x/b\t0.1s\n", "c.go:1: no such thing\n",
		"panic: died\n", "no server here\n", "skipped without a declared gap", "   broker 3.1\n", "left out in x:\n    1  declared gap: it has no delay\n",
		"failed:\n  m/x/b TestB\n  m/x/b TestB/sub\n  m/x/b TestS\n  m/c\n  m/d TestD\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "=== RUN") {
		t.Errorf("output tells what runs:\n%s", out)
	}
	if strings.Contains(out, "noise") {
		t.Errorf("output of a test that passed is shown:\n%s", out)
	}
	if !strings.HasSuffix(out, "\n3 passed, 5 failed\n") {
		t.Errorf("last line is not the sum:\n%s", out)
	}
}

func TestZipModule_packs_as_the_go_command_does(t *testing.T) {
	fsys := fstest.MapFS{}
	for _, name := range []string{"LICENSE", "go.mod", "a.go", "internal/b.go", ".git/x", "x/go.mod", "x/x.go", "x/y/go.mod", "x/y/y.go"} {
		fsys[name] = &fstest.MapFile{Data: []byte(name)}
	}
	for dir, want := range map[string][]string{
		".": {"m@v1/LICENSE", "m@v1/a.go", "m@v1/go.mod", "m@v1/internal/b.go"},
		"x": {"m@v1/LICENSE", "m@v1/go.mod", "m@v1/x.go"},
	} {
		var b bytes.Buffer
		if err := zipModule(&b, fsys, dir, "m@v1"); err != nil {
			t.Fatal(err)
		}
		z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range z.File {
			got = append(got, f.Name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("module in %s packs %v, want %v", dir, got, want)
		}
		if r, err := z.File[0].Open(); err != nil {
			t.Error(err)
		} else if _, err := io.ReadAll(r); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyTimeUp_tells_the_end_of_time_from_a_finding(t *testing.T) {
	if !onlyTimeUp("fuzz: elapsed: 2s\n--- FAIL: FuzzX (2.09s)\n    context deadline exceeded\nFAIL\n") {
		t.Error("the end of the time is taken for a finding")
	}
	if onlyTimeUp("--- FAIL: FuzzX (0.1s)\n    --- FAIL: FuzzX (0.00s)\n    context deadline exceeded\n    Failing input written to testdata/fuzz/FuzzX/1\n") {
		t.Error("a finding is taken for the end of the time")
	}
	if onlyTimeUp("--- FAIL: FuzzX (0.1s)\n    x_test.go:1: wrong\n") {
		t.Error("another failure is taken for the end of the time")
	}
}
