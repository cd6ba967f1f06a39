package outrigger

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheREADMEsExampleCompiles(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	must(t, err)
	_, example, _ := strings.Cut(string(readme), "```go\n")
	example, _, _ = strings.Cut(example, "```")
	program := `package main
import (
	"context"
	"log"
	"net/http"
	outrigger "github.com/outrigger-lb/outrigger/sdk/go"
)
func main() {
	ctx, url := context.Background(), "http://127.0.0.1:8080"
	` + example + `
	_, _ = web.Do(request)
	log.Fatal(err)
}
`
	// Within the module, whose requirements it has.
	dir, err := os.MkdirTemp("internal", "readme")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600))
	output, err := exec.Command("go", "build", "-o", os.DevNull, "./"+dir).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, output)
	}
}
