package main

import (
	"context"
	"fmt"
	"os"

	"github.com/dovetail-go/dovetail/internal/house"
)

func runDocs(_ context.Context, r *repo, _ []string) error {
	for _, p := range r.tree.Markdown {
		old, err := os.ReadFile(r.path(p))
		if err != nil {
			return err
		}
		text, err := house.Refresh(os.DirFS(r.dir), string(old))
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if text == string(old) {
			continue
		}
		if err := os.WriteFile(r.path(p), []byte(text), 0o644); err != nil {
			return err
		}
		fmt.Println("wrote", p)
	}
	return nil
}
