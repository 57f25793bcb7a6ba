package servers

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// mavenInstall fetches the jars that a pom names to a directory of the cache.
// A JDK and Maven are installed where they are missing: the tests run clients from
// their source.
func mavenInstall(ctx context.Context, log io.Writer, pom, name string) error {
	var missing []string
	for program, pkg := range map[string]string{"javac": "default-jdk-headless", "mvn": "maven"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) > 0 {
		if err := aptInstall(ctx, log, missing...); err != nil {
			return err
		}
	}
	build := cached("build-" + name)
	if err := os.RemoveAll(build); err != nil {
		return err
	}
	if err := os.MkdirAll(build, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(build, "pom.xml"), []byte(pom), 0o644); err != nil {
		return err
	}
	if err := run(ctx, log, build, nil, "mvn", "--batch-mode", "--no-transfer-progress",
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"); err != nil {
		return fmt.Errorf("fetch jars from Maven's repository, or the mirror that its settings.xml names: %w", err)
	}
	return os.Rename(filepath.Join(build, "lib"), cached(name))
}

// hasJars reports whether mavenInstall has run and there is a Java to run them.
func hasJars(name string) bool {
	_, err := exec.LookPath("java")
	jars, _ := filepath.Glob(filepath.Join(cached(name), "*.jar"))
	return err == nil && len(jars) > 0
}

// java returns the arguments that run a class of those jars in a small heap.
func java(name, heap string, args ...string) []string {
	return append([]string{"java", "-Xmx" + heap, "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError",
		"-cp", filepath.Join(cached(name), "*")}, args...)
}
