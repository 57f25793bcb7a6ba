package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dovetail-go/dovetail/internal/house"
)

func TestPublicAPI_is_what_others_can_use(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	tree, err := house.Load(fstest.MapFS{
		"go.work": file("go 1.26\nuse .\n"),
		"go.mod":  file("module example.org/m\n\ngo 1.26\n"),
		"a.go": file(`package m

const A, b = 1, 2

var V map[string]int

type (
	S[T any] struct {
		F, g func(x T) error
		E
	}
	E interface{ M(int); n() }
	Alias = S[int]
	hidden struct{ F int }
)

func (s *S[T]) Do(x T, opts ...string) (n int, err error) { return }
func (s *S[T]) do()         {}
func (hidden) Do()          {}
func New[T any](x T) *S[T]  { return nil }
func new_()                 {}
`),
		"a_test.go":         file("package m\n\nfunc OfTests() {}\n"),
		"internal/x/x.go":   file("package x\n\nfunc Inner() {}\n"),
		"cmd/tool/main.go":  file("package main\n\nfunc Main() {}\n"),
		"sub/deep/deep.go":  file("package deep\n\nfunc Deep() {}\n"),
		"examples/e/e.go":   file("package e\n\nfunc Example() {}\n"),
		"sub/testdata/t.go": file("package t\n\nfunc Data() {}\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(`
example.org/m: const A
example.org/m: func (s *S[T]) Do(x T, opts ...string) (n int, err error)
example.org/m: func New[T any](x T) *S[T]
example.org/m: interface E has M func(int)
example.org/m: struct S has E
example.org/m: struct S has F func(x T) error
example.org/m: type Alias = S[int]
example.org/m: type E interface
example.org/m: type S[T any] struct
example.org/m: var V map[string]int
example.org/m/sub/deep: func Deep()`) + "\n"
	if got := publicAPI(tree); got != want {
		t.Errorf("it lists\n%s\nwant\n%s", got, want)
	}
}
