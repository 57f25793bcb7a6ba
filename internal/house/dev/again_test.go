package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/internal/house"
)

func TestResults_report_a_second_run_and_stay_failed(t *testing.T) {
	root := &house.Module{ModFile: house.ModFile{Path: "m"}, Dir: "."}
	sat := &house.Module{ModFile: house.ModFile{Path: "m/x"}, Dir: "x"}
	var shown bytes.Buffer
	res := resultsOf(&shown, []*house.Module{root, sat})
	if err := res.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	before := res.total()
	// One of the three does not build: it is not run again.
	if names := res.toRunAgain(); !slices.Equal(names, []string{"m/d", "m/x/b"}) {
		t.Fatalf("packages to run again: %v", names)
	}
	res.noteAgain("m/d", false)
	res.noteAgain("m/x/b", true)
	if after := res.total(); after != before {
		t.Errorf("a second run made %+v of %+v", after, before)
	}
	res.write(&shown)
	if want := "run again by themselves:\n  m/d: fails again\n  m/x/b: passes by itself\n"; !strings.Contains(shown.String(), want) {
		t.Errorf("output lacks %q:\n%s", want, shown.String())
	}
}

func TestResults_do_not_run_many_failures_again(t *testing.T) {
	m := &house.Module{ModFile: house.ModFile{Path: "m"}, Dir: "."}
	res := resultsOf(&bytes.Buffer{}, []*house.Module{m})
	for _, name := range []string{"a", "b", "c", "d"} {
		events := `{"Action":"run","Package":"m/` + name + `","Test":"T"}
{"Action":"fail","Package":"m/` + name + `","Test":"T"}
{"Action":"fail","Package":"m/` + name + `"}
`
		if err := res.read(strings.NewReader(events)); err != nil {
			t.Fatal(err)
		}
	}
	if names := res.toRunAgain(); names != nil {
		t.Errorf("of many failures %v are run again", names)
	}
}
