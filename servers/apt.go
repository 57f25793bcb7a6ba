package servers

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// aptScript installs packages without asking and without starting what is in
// them: Debian starts a server as soon as it is unpacked, on its well-known
// port, which is none of ours. The package lists are fetched only where the
// ones at hand do not do.
const aptScript = `set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ] || grep -q 'by dovetail' $policy; then
	printf '#!/bin/sh\n# by dovetail, while it installs\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
get="apt-get -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0"
$get install --no-install-recommends "$@" </dev/null && exit
$get update </dev/null
$get install --no-install-recommends "$@" </dev/null
`

// aptInstall installs Debian packages, one process at a time. Whoever is not
// root needs sudo without a password.
func aptInstall(ctx context.Context, log io.Writer, packages ...string) error {
	names := strings.Join(packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("there is no apt-get: install %s by hand", names)
	}
	args := append([]string{"sh", "-c", aptScript, "install"}, packages...)
	if os.Geteuid() != 0 {
		if exec.CommandContext(ctx, "sudo", "-n", "true").Run() != nil {
			return fmt.Errorf("this takes root: run once sudo apt-get install %s", names)
		}
		args = append([]string{"sudo", "-n"}, args...)
	}
	unlock, err := lock(ctx, cached("apt.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if err := run(ctx, log, "/", nil, args...); err != nil {
		return fmt.Errorf("install the packages %s (by hand: apt-get update; apt-get install %s): %w", names, names, err)
	}
	return nil
}
