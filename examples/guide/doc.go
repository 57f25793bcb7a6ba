// Package guide holds the code that the guides in docs/ show, as tests.
package guide
