package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/policy/minted"
	"github.com/spf13/cobra"
)

func (a *app) addressCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "address", Short: "Mint recipient addresses that are signed and expire, and read them"})
	cmd.AddCommand(a.addressMintCommand(), a.addressShowCommand())
	return cmd
}

// mintFlags is what an address is to say.
type mintFlags struct {
	config              configFlags
	route, domain, data string
	ttl                 string
}

func (a *app) addressMintCommand() *cobra.Command {
	var f mintFlags
	cmd := &cobra.Command{
		Use:   "mint --route ROUTE",
		Short: "Print an address that carries data, is signed, and expires",
		Long: `Print an address of the route ROUTE, one of minted.routes, signed with the first key of minted.key_file.
The daemon knows it at RCPT without looking anything up, and hands the data to the application as the
fact minted.addresses. The data can be read by whoever sees the address.`,
		Example: "  incoming address mint --config incoming.toml --route tickets --ttl 72h --data 4711",
		Args:    args(0, 0, ""),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.addressMint(cmd, &f) },
	}
	f.config.register(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.route, "route", "", "`ROUTE`, which stands before the plus")
	fs.StringVar(&f.domain, "in", "", "`DOMAIN` of the address (default: the first of domains)")
	fs.StringVar(&f.ttl, "ttl", minted.DefaultTTL.String(), "`DURATION` that it lives, or none")
	fs.StringVar(&f.data, "data", "", "`TEXT` that the application gets back")
	return cmd
}

func (a *app) addressMint(cmd *cobra.Command, f *mintFlags) error {
	if f.route == "" {
		return usagef(cmd, "--route is missing: one of minted.routes")
	}
	cfg, m, err := f.minter(cmd)
	if err != nil {
		return err
	}
	says := minted.Address{Route: f.route, Domain: f.domain, Data: f.data}
	if says.Domain == "" {
		if len(cfg.Domains) == 0 {
			return usagef(cmd, "--in is missing: the configuration names no domains")
		}
		says.Domain = cfg.Domains[0].String()
	}
	if f.ttl != "none" {
		ttl, err := time.ParseDuration(f.ttl)
		if err != nil || ttl <= 0 {
			return usagef(cmd, "--ttl %s: it is no duration; write 72h, or none", f.ttl)
		}
		says.Expires = time.Now().Add(ttl)
	}
	address, err := m.Mint(says)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, address)
	return err
}

// minter is made of the configuration's keys.
func (f *mintFlags) minter(cmd *cobra.Command) (*config.Config, *minted.Minter, error) {
	cfg, err := f.config.load(cmd)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Minted.KeyFile == "" {
		return nil, nil, errors.New("minted.key_file is not set; name the configuration with --config FILE, or --set minted.key_file=FILE")
	}
	m, err := minted.Open(cfg.Minted.KeyFile)
	return cfg, m, err
}

func (a *app) addressShowCommand() *cobra.Command {
	var f mintFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ADDRESS",
		Short: "Say what a minted address says, and whether it would be taken",
		Long: `Say what ADDRESS says, by the keys of minted.key_file. The exit code is 1 when it is forged or has
expired.`,
		Example: "  incoming address show --config incoming.toml tickets+…@example.org",
		Args:    args(1, 1, "ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, m, err := f.minter(cmd)
			if err != nil {
				return err
			}
			return a.addressShow(m, args[0], asJSON)
		},
	}
	f.config.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (a *app) addressShow(m *minted.Minter, address string, asJSON bool) error {
	says, bad := m.Open(address)
	if errors.Is(bad, minted.ErrForged) {
		return fmt.Errorf("%s: forged, or minted with another key or for another domain", address)
	}
	expires := "never"
	if !says.Expires.IsZero() {
		expires = says.Expires.Format(time.RFC3339)
	}
	var err error
	if asJSON {
		err = json.NewEncoder(a.stdout).Encode(map[string]string{"route": says.Route, "domain": says.Domain, "data": says.Data, "expires": expires})
	} else {
		_, err = fmt.Fprintf(a.stdout, "route    %s\ndomain   %s\ndata     %q\nexpires  %s\n", says.Route, says.Domain, says.Data, expires)
	}
	if err == nil && bad != nil {
		err = fmt.Errorf("%s: it has expired", address)
	}
	return err
}
