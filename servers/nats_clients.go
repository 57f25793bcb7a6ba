package servers

import (
	"context"
	_ "embed"
	"io"
	"regexp"
	"testing"
)

// Plain clients of NATS in other languages, at pinned versions: what tests of
// messages that others read and write run.
var (
	//go:embed pinned/nats-python.txt
	natsRequirements string
	natsVenv         = "nats-python-" + regexp.MustCompile(`nats-py==(\S+)`).FindStringSubmatch(natsRequirements)[1]

	//go:embed pinned/nats-java-pom.xml
	natsPom  string
	natsJars = "nats-java-" + regexp.MustCompile(`jnats</artifactId>\s*<version>([^<]+)<`).FindStringSubmatch(natsPom)[1]
)

// NATSPython returns a Python that has nats-py, a plain client of NATS. The first
// that asks installs it; a test that cannot have it fails.
func NATSPython(t testing.TB) (python string) {
	t.Helper()
	need(t, natsVenv, func() bool { return hasVenv(natsVenv) }, func(ctx context.Context, log io.Writer) error {
		return pipInstall(ctx, log, natsRequirements, natsVenv)
	})
	return venvPython(natsVenv)
}

// NATSJava returns the command that runs Java, a source file or a class, with
// NATS's own client on the class path. The first that asks installs it; a test
// that cannot have it fails.
func NATSJava(t testing.TB) (command []string) {
	t.Helper()
	need(t, natsJars, func() bool { return hasJars(natsJars) }, func(ctx context.Context, log io.Writer) error {
		return mavenInstall(ctx, log, natsPom, natsJars)
	})
	return java(natsJars, "128m")
}
