package sdkgo

import (
	"os"
	"testing"

	"github.com/dovetail-go/dovetail/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m).Run()) }
