package config

import (
	"slices"

	"github.com/incoming-mx/incoming/policy/dnsbl"
)

// DNSBL is one [[dnsbl]].
type DNSBL struct {
	Zone   string        `toml:"zone"`
	Codes  []dnsbl.Codes `toml:"codes"`
	Action DNSBLAction   `toml:"action"`
}

func dnsblKeys() []Key {
	return []Key{
		{Name: "dnsbl.zone", Example: `"zen.spamhaus.org"`, in: ofDNSBL(func(d *DNSBL) any { return &d.Zone }),
			Doc: "A DNS blocklist that the policy dnsbl asks about the client at MAIL, by its zone. Required"},
		{Name: "dnsbl.codes", Example: `["127.0.0.2-127.0.0.11"]`, in: ofDNSBL(func(d *DNSBL) any { return &d.Codes }),
			Doc: "The answers that count: codes, and ranges of them; the list's manual has them. Required"},
		{Name: "dnsbl.action", Example: `"quarantine"`, in: ofDNSBL(func(d *DNSBL) any { return &d.Action }),
			Doc: "What a listing leads to: reject (550 5.7.1 at RCPT, which names the zone), quarantine (the message is marked), fact (only the facts are kept, as they are by each). Default: reject"},
	}
}

func (c *Config) checkDNSBL(d DNSBL, before []DNSBL) *conflict {
	switch {
	case d.Zone == "":
		return at("dnsbl.codes", "dnsbl.action").says("dnsbl: one has no zone; set it to the list's, such as zen.spamhaus.org")
	case slices.ContainsFunc(before, func(o DNSBL) bool { return o.Zone == d.Zone }):
		return at("dnsbl.zone").says("dnsbl %s: it is there twice; put all codes that count into one", d.Zone)
	case len(d.Codes) == 0:
		return at("dnsbl.zone").says(`dnsbl %s: it has no codes; set them to the answers that count, such as ["127.0.0.2-127.0.0.11"]`, d.Zone)
	}
	if _, err := dnsbl.New(nil, []dnsbl.Zone{{Name: d.Zone, Codes: d.Codes}}, nil); err != nil {
		return at("dnsbl.zone").says("%v", err)
	}
	return nil
}
