package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Load is the defaults, over them the file at path ("" is none), over that what
// override changes (nil changes nothing), checked as a whole.
func Load(path string, override func(*Config) error) (*Config, error) {
	c := Default()
	c.Listeners = nil
	var text []byte
	if path != "" {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("config %s: %w", path, errors.Unwrap(err))
		}
		if err := parse(c, path, text); err != nil {
			return nil, err
		}
	}
	c.fill()
	inFile := c.check() // which flags may mend
	if override != nil {
		if err := override(c); err != nil {
			return nil, err
		}
		c.fill()
	}
	err := c.check()
	if err == nil {
		return c, nil
	}
	if path != "" && inFile != nil && inFile.Error() == err.Error() {
		return nil, inPlace(path, text, err)
	}
	return nil, err
}

func parse(c *Config, path string, text []byte) error {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return explain(path, text, err)
	}
	return nil
}

// Set is what --set does: arg is KEY=VALUE.
func (c *Config) Set(arg string) error {
	name, value, ok := strings.Cut(arg, "=")
	name = strings.TrimSpace(name)
	if !ok {
		return fmt.Errorf("--set %s: no value; write --set KEY=VALUE", arg)
	}
	p, err := c.place(name)
	if err != nil {
		return fmt.Errorf("--set %s: %w", arg, err)
	}
	if err := set(p, strings.TrimSpace(value)); err != nil {
		return fmt.Errorf("--set %s: %w", arg, err)
	}
	return nil
}

// SetKey sets one key on behalf of a flag, which the error names.
func (c *Config) SetKey(flag, key, value string) error {
	p, err := c.place(key)
	if err == nil {
		err = set(p, value)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", flag, value, err)
	}
	return nil
}

// Listen replaces the listeners by one for each address, without TLS.
func (c *Config) Listen(addresses []string) error {
	c.Listeners = nil
	for _, address := range addresses {
		var l Listener
		if err := l.Address.UnmarshalText([]byte(address)); err != nil {
			return fmt.Errorf("--listen: %w", err)
		}
		c.Listeners = append(c.Listeners, l)
	}
	c.fill()
	return nil
}

// AcceptDomains replaces the domains.
func (c *Config) AcceptDomains(names []string) error {
	c.Domains = make([]Domain, len(names))
	for i, name := range names {
		if err := c.Domains[i].UnmarshalText([]byte(name)); err != nil {
			return fmt.Errorf("--domain: %w", err)
		}
	}
	return nil
}

// place is where the value of a key is. "listener.tls" is the only listener's,
// "listener.NAME.tls" that of the one by that name or address; so with the tables
// of every list.
func (c *Config) place(name string) (any, error) {
	for _, k := range Keys() {
		if k.Name != name {
			continue
		}
		ps := k.places(c)
		if of := k.list(); len(ps) == 0 {
			return nil, fmt.Errorf("there is no %s; add a [[%s]] to the file", of, of)
		} else if len(ps) != 1 {
			return nil, fmt.Errorf("there are %d %ss; write %s.NAME.%s", len(ps), of, of, strings.TrimPrefix(name, of+"."))
		}
		return ps[0], nil
	}
	for _, l := range lists() {
		if rest, ok := strings.CutPrefix(name, l.name+"."); ok {
			if dot := strings.LastIndexByte(rest, '.'); dot > 0 {
				return c.placeIn(l, rest[:dot], l.name+"."+rest[dot+1:])
			}
		}
	}
	return nil, errors.New(unknownKey(name))
}

// placeIn is where the value of a key is in the table of l by that label.
func (c *Config) placeIn(l list, label, key string) (any, error) {
	for _, k := range Keys() {
		if k.Name != key || k.in == nil {
			continue
		}
		for i := range l.n(c) {
			if l.label(c, i) == label {
				return k.in(c, i), nil
			}
		}
		return nil, fmt.Errorf("there is no %s %s", l.name, label)
	}
	return nil, errors.New(unknownKey(key))
}
