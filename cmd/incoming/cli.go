package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes, as unix tools have them.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// app is one call of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	// interactive reports whether somebody can be asked.
	interactive func() bool
}

// run does what args say and returns the exit code. Errors go to stderr in one
// line, "incoming: " before it; only a fault in a file has the place shown under
// it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	a.interactive = func() bool { return isTerminal(stdin) && isTerminal(stderr) }
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	return a.report(root.ExecuteContext(ctx))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "incoming",
		Short:         "Receive mail by SMTP, keep it safe, hand it to an application",
		Version:       thisVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd, "a command is missing")
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, `as "incoming version"`) // cobra would give it a -v, which is verbose to many
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%w", err) })
	root.SetHelpCommand(helpCommand())
	root.AddCommand(a.serveCommand(), a.checkCommand(), a.configCommand(), a.queueCommand(), a.sessionsCommand(),
		a.reloadCommand(), a.routeCommand(), a.addressCommand(), a.sendCommand(), a.versionCommand(), a.manCommand())
	return root
}

// helpCommand is "incoming help": as --help of the command named, and an error for
// one that there is not.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Say what a command does, and how it is called",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			of, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []cobra.Completion
			for _, c := range of.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil {
				return usagef(cmd, "%w", err)
			}
			if len(rest) > 0 {
				return unknownCommand(of, rest[0])
			}
			of.InitDefaultHelpFlag() // else it is missing among the flags
			return of.Help()
		},
	}
}

// usageError is a mistake in how the program was called: exit code 2.
type usageError struct {
	err  error
	help string // the command whose --help tells more
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), help: cmd.CommandPath()}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		hint = "; did you mean " + near[0] + "?"
	}
	return usagef(cmd, "unknown command %q%s", name, hint)
}

// args checks the number of arguments: at least least, at most most when most
// is not negative.
func args(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef(cmd, "%s: %s is missing", cmd.Name(), what)
		case most == 0 && len(args) > 0:
			return usagef(cmd, "%s takes no argument, and was given %q", cmd.Name(), args[0])
		case most >= 0 && len(args) > most:
			return usagef(cmd, "%s: one %s, not %d", cmd.Name(), what, len(args))
		}
		return nil
	}
}

// group makes a command that only has commands under it say so.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef(cmd, "%s: a command is missing", cmd.Name())
		}
		return unknownCommand(cmd, args[0])
	}
	return cmd
}

// report writes err to stderr and returns the exit code for it.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	var usage *usageError
	var inFile interface { // of this process, or of the daemon
		error
		Place() string
	}
	line := "incoming: " + oneLine(err)
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(a.stderr, "%s; see %s --help\n", line, usage.help)
		return exitUsage
	case errors.As(err, &inFile):
		fmt.Fprintf(a.stderr, "%s\n%s", line, inFile.Place())
	default:
		fmt.Fprintln(a.stderr, line)
	}
	return exitFailure
}

// oneLine is an error as it is shown and logged. Those of the library begin with
// its name, which is the program's too.
func oneLine(err error) string {
	return strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", "; "), "incoming: ")
}

// plain is an error that says itself in one line.
type plain struct{ error }

func (p plain) Error() string { return oneLine(p.error) }
func (p plain) Unwrap() error { return p.error }

// note tells the operator something that is no error.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, "incoming: "+format+"\n", args...)
}
