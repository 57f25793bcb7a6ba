package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/internal/house"
)

func TestResults_take_a_second_run_for_the_first(t *testing.T) {
	root := &house.Module{ModFile: house.ModFile{Path: "m"}, Dir: "."}
	sat := &house.Module{ModFile: house.ModFile{Path: "m/x"}, Dir: "x"}
	var shown bytes.Buffer
	res := resultsOf(&shown, []*house.Module{root, sat})
	if err := res.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	// One of the three does not build, and stays failed.
	if again := res.takeAgain(); !slices.Equal(again, []string{"m/d", "m/x/b"}) {
		t.Fatalf("packages to run again: %v", again)
	}
	second := `
{"Action":"run","Package":"m/x/b","Test":"TestB"}
{"Action":"pass","Package":"m/x/b","Test":"TestB","Elapsed":0}
{"Action":"pass","Package":"m/x/b","Elapsed":0.1}
{"Action":"run","Package":"m/d","Test":"TestD"}
{"Action":"fail","Package":"m/d","Test":"TestD","Elapsed":0}
{"Action":"fail","Package":"m/d","Elapsed":0.1}
`
	if err := res.read(strings.NewReader(second)); err != nil {
		t.Fatal(err)
	}
	total := res.total()
	total.took = 0
	if want := (tally{run: 4, passed: 2, failed: 2}); total != want {
		t.Errorf("in all %+v, want %+v", total, want)
	}
	if want := []string{"m/c", "m/d TestD"}; !slices.Equal(res.failed, want) {
		t.Errorf("failed: %v, want %v", res.failed, want)
	}
	res.write(&shown)
	if want := "run again by themselves:\n  m/d (TestD)\n  m/x/b (TestB, TestB/sub, TestS)\n"; !strings.Contains(shown.String(), want) {
		t.Errorf("output lacks %q:\n%s", want, shown.String())
	}
}

func TestResults_never_excuse_a_data_race_or_a_failure_of_many(t *testing.T) {
	m := &house.Module{ModFile: house.ModFile{Path: "m"}, Dir: "."}
	res := resultsOf(&bytes.Buffer{}, []*house.Module{m})
	fail := func(name, output string) string {
		return `{"Action":"run","Package":"m/` + name + `","Test":"T"}
{"Action":"output","Package":"m/` + name + `","Test":"T","Output":"` + output + `\n"}
{"Action":"fail","Package":"m/` + name + `","Test":"T"}
{"Action":"fail","Package":"m/` + name + `"}
`
	}
	if err := res.read(strings.NewReader(fail("a", "WARNING: DATA RACE"))); err != nil {
		t.Fatal(err)
	}
	if again := res.takeAgain(); again != nil {
		t.Errorf("a data race is run again: %v", again)
	}
	for _, name := range []string{"b", "c", "d"} {
		if err := res.read(strings.NewReader(fail(name, "late"))); err != nil {
			t.Fatal(err)
		}
	}
	if again := res.takeAgain(); again != nil || len(res.failed) != 4 {
		t.Errorf("of many failures %v are run again", again)
	}
}
