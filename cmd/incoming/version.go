package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print what was built, from what",
		Args:  args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, thisVersion())
			return err
		},
	}
}

func thisVersion() string {
	info, _ := debug.ReadBuildInfo() // nil when there is none
	return version(info)
}

// version is what the build knows of itself; nothing in it is written by hand.
func version(info *debug.BuildInfo) string {
	if info == nil {
		return fmt.Sprintf("incoming (unknown) %s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	text := "incoming " + v
	if r := settings["vcs.revision"]; r != "" {
		text += " revision " + r
		if t := settings["vcs.time"]; t != "" {
			text += " of " + t
		}
		if settings["vcs.modified"] == "true" {
			text += ", modified"
		}
	}
	return text + fmt.Sprintf(" %s %s/%s", info.GoVersion, runtime.GOOS, runtime.GOARCH)
}
