package house

import (
	"os"
	"strings"
	"testing"
)

// The Chinese page says what the English one says: the same code, commands and
// number of sections.
func TestHouse_both_readmes_tell_the_same(t *testing.T) {
	english, chinese := readme(t, "README.md"), readme(t, "README.zh-CN.md")
	en, zh := blocks(english), blocks(chinese)
	if len(en) != len(zh) {
		t.Fatalf("README.md has %d blocks, README.zh-CN.md %d", len(en), len(zh))
	}
	for i := range en {
		a, b := english[en[i].start:en[i].end], chinese[zh[i].start:zh[i].end]
		if en[i].lang == "go" && a != b {
			t.Errorf("block %d: line %d of README.md and line %d of README.zh-CN.md differ", i, en[i].line, zh[i].line)
		}
	}
	if e, z := strings.Count(english, "\n## "), strings.Count(chinese, "\n## "); e != z {
		t.Errorf("README.md has %d sections, README.zh-CN.md %d", e, z)
	}
}

func readme(t *testing.T, name string) string {
	b, err := os.ReadFile(root + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
