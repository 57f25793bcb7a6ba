package servers

import (
	"context"
	_ "embed"
	"io"
	"regexp"
	"testing"
)

// A plain client of Kafka for Python, at a pinned version: what tests of
// messages that others read and write run. Java's is among the server's jars.
var (
	//go:embed pinned/kafka-python.txt
	kafkaRequirements string
	kafkaVenv         = "kafka-python-" + regexp.MustCompile(`kafka-python==(\S+)`).FindStringSubmatch(kafkaRequirements)[1]
)

// KafkaPython returns a Python that has kafka-python, a plain client of Kafka.
// The first that asks installs it; a test that cannot have it fails.
func KafkaPython(t testing.TB) (python string) {
	t.Helper()
	need(t, kafkaVenv, func() bool { return hasVenv(kafkaVenv) }, func(ctx context.Context, log io.Writer) error {
		return pipInstall(ctx, log, kafkaRequirements, kafkaVenv)
	})
	return venvPython(kafkaVenv)
}

// KafkaJava returns the command that runs Java, a source file or a class, with
// Kafka's own client on the class path. The first that asks installs it; a test
// that cannot have it fails.
func KafkaJava(t testing.TB) (command []string) {
	t.Helper()
	if err := Install(t.Context(), Kafka); err != nil {
		t.Fatal(err)
	}
	return java(kafkaJars, "128m")
}
