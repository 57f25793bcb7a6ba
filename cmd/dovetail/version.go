package main

import (
	"io"
	"runtime"
	"runtime/debug"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

type versionInfo struct {
	Version    string   `json:"version"`
	Revision   string   `json:"revision,omitempty"`
	Go         string   `json:"go"`
	Platform   string   `json:"platform"`
	Transports []string `json:"transports"`
	Stores     []string `json:"stores"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Say which version this is and what is linked in",
		Example: "  dovetail version -o json",
		Args:    arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
				Transports: driver.Schemes(), Stores: storeSchemes()}
			if info, ok := debug.ReadBuildInfo(); ok {
				v.Version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						v.Revision = s.Value
					}
				}
			}
			return a.print(v, func(w io.Writer) error {
				return columns(w, "", func(row func(...any)) {
					row("dovetail", v.Version)
					if v.Revision != "" {
						row("revision", v.Revision)
					}
					row("go", v.Go+" "+v.Platform)
					row("transports", v.Transports)
					row("stores", v.Stores)
				})
			})
		},
	}
}
