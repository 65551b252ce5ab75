package main

import (
	"io"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print the whole default configuration, commented",
		Long:  "Print the whole default configuration as a commented file to start from:\n\n    incoming config > incoming.toml",
		Args:  args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(a.stdout, config.Render())
			return err
		},
	}
}
