package servers

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// Plain clients of RabbitMQ in other languages, at pinned versions: what tests
// of messages that others read and write run.
var (
	//go:embed pinned/rabbitmq-python.txt
	pikaRequirements string
	pikaVenv         = "rabbitmq-python-pika-" + regexp.MustCompile(`pika==(\S+)`).FindStringSubmatch(pikaRequirements)[1]

	//go:embed pinned/rabbitmq-java-pom.xml
	amqpClientPom  string
	amqpClientJars = "rabbitmq-java-" + regexp.MustCompile(`amqp-client</artifactId>\s*<version>([^<]+)<`).FindStringSubmatch(amqpClientPom)[1]
)

// RabbitMQPython returns a Python that has pika, a plain client of RabbitMQ. The
// first that asks installs it; a test that cannot have it fails.
func RabbitMQPython(t testing.TB) (python string) {
	t.Helper()
	need(t, pikaVenv, func() bool { return hasVenv(pikaVenv) }, func(ctx context.Context, log io.Writer) error {
		return pipInstall(ctx, log, pikaRequirements, pikaVenv)
	})
	return venvPython(pikaVenv)
}

// RabbitMQJava returns the command that runs Java, a source file or a class,
// with RabbitMQ's own client on the class path. The first that asks installs
// it; a test that cannot have it fails.
func RabbitMQJava(t testing.TB) (command []string) {
	t.Helper()
	need(t, amqpClientJars, func() bool { return hasJars(amqpClientJars) }, func(ctx context.Context, log io.Writer) error {
		return mavenInstall(ctx, log, amqpClientPom, amqpClientJars)
	})
	return java(amqpClientJars, "128m")
}

// need installs what is missing, once for all processes, or fails the test.
func need(t testing.TB, name string, installed func() bool, install func(context.Context, io.Writer) error) {
	t.Helper()
	if err := Install(t.Context(), client{name: name, installed: installed, install: install}); err != nil {
		t.Fatal(err)
	}
}

// A client is installed like a server and never started.
type client struct {
	Kind
	name      string
	installed func() bool
	install   func(context.Context, io.Writer) error
}

func (c client) Name() string                                     { return c.name }
func (c client) Installed() bool                                  { return c.installed() }
func (c client) Install(ctx context.Context, log io.Writer) error { return c.install(ctx, log) }

// pipInstall makes an environment of Python's with what requirements name, in a
// directory of the cache. Python is installed where it is missing.
func pipInstall(ctx context.Context, log io.Writer, requirements, name string) error {
	build := cached("build-" + name)
	make := func() error {
		if err := os.RemoveAll(build); err != nil {
			return err
		}
		return run(ctx, log, "/", nil, "python3", "-m", "venv", build)
	}
	if make() != nil { // it is not there, or Debian's without what it takes
		if err := aptInstall(ctx, log, "python3", "python3-venv"); err != nil {
			return err
		}
		if err := make(); err != nil {
			return err
		}
	}
	list := filepath.Join(build, "requirements.txt")
	if err := os.WriteFile(list, []byte(requirements), 0o644); err != nil {
		return err
	}
	if err := run(ctx, log, build, nil, filepath.Join(build, "bin", "python"), "-m", "pip", "install",
		"--disable-pip-version-check", "--no-input", "--require-hashes", "-r", list); err != nil {
		return fmt.Errorf("fetch packages from Python's index, or the mirror that pip is configured for: %w", err)
	}
	if err := os.RemoveAll(cached(name)); err != nil { // one whose Python has gone
		return err
	}
	return os.Rename(build, cached(name))
}

func venvPython(name string) string { return cached(name, "bin", "python") }

// hasVenv reports whether pipInstall has run and its Python still does.
func hasVenv(name string) bool {
	return isFile(venvPython(name)) && exec.Command(venvPython(name), "-c", "").Run() == nil
}
