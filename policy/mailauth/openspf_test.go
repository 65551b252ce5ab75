package mailauth

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/incoming-mx/incoming/smtp"
)

// deviations are the tests of the suite that come out otherwise, each with what of
// the library it rests on. None turns a fail of a sound record into a pass.
var deviations = map[string]string{
	"detect-errors-anywhere":       "an error behind the mechanism that matches goes unseen",
	"redirect-is-modifier":         "an error behind the mechanism that matches goes unseen",
	"redirect-syntax-error":        "an error behind the mechanism that matches goes unseen",
	"redirect-empty-domain":        "an error behind the mechanism that matches goes unseen",
	"non-ascii-policy":             "a character that a record may not hold is no error",
	"control-char-policy":          "a character that a record may not hold is no error",
	"invalid-domain":               "a domain-spec that names no domain is a name that is not there",
	"a-null":                       "a domain-spec that names no domain is a name that is not there",
	"a-numeric-toplabel":           "a domain-spec that names no domain is a name that is not there",
	"a-only-toplabel-trailing-dot": "a domain-spec that names no domain is a name that is not there",
	"a-numeric":                    "a domain-spec that names no domain is a name that is not there",
	"a-bad-toplabel":               "a domain-spec that names no domain is a name that is not there",
	"a-bad-domain":                 "a domain-spec that names no domain is a name that is not there",
	"a-only-toplabel":              "a domain-spec that names no domain is a name that is not there",
	"mx-numeric-top-label":         "a domain-spec that names no domain is a name that is not there",
	"mx-null":                      "a domain-spec that names no domain is a name that is not there",
	"mx-bad-domain":                "a domain-spec that names no domain is a name that is not there",
	"mx-bad-toplab":                "a domain-spec that names no domain is a name that is not there",
	"a-colon-domain":               "a domain-spec with both a colon and a slash in it is taken for one with a mask",
	"a-colon-domain-ip4mapped":     "a domain-spec with both a colon and a slash in it is taken for one with a mask",
	"mx-colon-domain":              "a domain-spec with both a colon and a slash in it is taken for one with a mask",
	"mx-colon-domain-ip4mapped":    "a domain-spec with both a colon and a slash in it is taken for one with a mask",
	"cidr4-032":                    "a mask with a leading zero is taken",
	"bare-ip6":                     "an IPv6 address without a mask's place is not found wrong",
	"unknown-modifier-syntax":      "an unknown modifier is not looked at",
	"exp-empty-domain":             "exp= is not looked at, for nobody is told its text",
	"exp-syntax-error":             "exp= is not looked at, for nobody is told its text",
	"exp-twice":                    "exp= is not looked at, for nobody is told its text",
	"exp-only-macro-char":          "exp= is not looked at, for nobody is told its text",
	"p-macro-multiple":             "of several names for %{p} the first is taken",
}

// TestOpenSPFSuite runs the openspf.org test suite for RFC 7208, as the SPF library
// ships it, against what a message goes through here.
func TestOpenSPFSuite(t *testing.T) {
	t.Parallel()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "blitiri.com.ar/go/spf").Output()
	if err != nil {
		t.Fatalf("where is the library's source? %v", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testdata", "rfc7208-tests.yml"))
	if err != nil {
		t.Fatal(err)
	}
	ran, deviated := 0, make(map[string]bool)
	for docs := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var suite spfSuite
		if err := docs.Decode(&suite); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		z := suite.zone(t)
		for name, test := range suite.Tests {
			ran++
			got := test.run(t, z)
			if slices.Contains(test.Result, string(got.Result)) {
				continue
			}
			deviated[name] = true
			if _, known := deviations[name]; !known {
				t.Errorf("%s (RFC 7208 %v): %s, want %v: %s", name, test.Spec, got.Result, test.Result, got.Reason)
			}
		}
	}
	for name := range deviations {
		if !deviated[name] {
			t.Errorf("%s passes: it is no deviation", name)
		}
	}
	if ran < 150 {
		t.Errorf("only %d tests were found", ran)
	}
}

type spfSuite struct {
	Tests    map[string]spfTest
	ZoneData map[string][]yaml.Node `yaml:"zonedata"`
}

type spfTest struct {
	Spec     some
	Helo     string
	Host     string
	MailFrom string `yaml:"mailfrom"`
	Result   some
}

// some is one string or several.
type some []string

func (s *some) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*s = some{n.Value}
		return nil
	}
	return n.Decode((*[]string)(s))
}

func (test *spfTest) run(t *testing.T, z zone) SPF {
	from := smtp.ParsePath(test.MailFrom)
	if at := strings.IndexByte(test.MailFrom, '@'); at < 0 {
		from = smtp.Path{Domain: test.MailFrom}
	}
	c := &check{dns: newBudget(z, 8*time.Second), peer: netip.MustParseAddr(test.Host).Unmap(), helo: test.Helo, from: from}
	return c.checkSPF(t.Context(), c.identities()[0])
}

// zone reads the suite's zone data: a TXT record stands for SPF unless the name has
// its own of either kind.
func (s *spfSuite) zone(t *testing.T) zone {
	z := make(zone)
	for name, nodes := range s.ZoneData {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		var r records
		var spf []string
		hasTXT := false
		for _, n := range nodes {
			if n.Kind == yaml.ScalarNode && n.Value == "TIMEOUT" {
				r.fail = true
				continue
			}
			var rr map[string]yaml.Node
			if err := n.Decode(&rr); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for kind, value := range rr {
				var strs some
				var mx []string
				switch kind {
				case "TIMEOUT":
					r.fail = true
				case "MX":
					if err := value.Decode(&mx); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					r.mx = append(r.mx, &net.MX{Host: mx[1]})
				default:
					if err := value.Decode(&strs); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
				switch kind {
				case "A", "AAAA":
					r.ips = append(r.ips, net.IP(netip.MustParseAddr(strs[0]).AsSlice()))
				case "SPF":
					spf = append(spf, strings.Join(strs, ""))
				case "TXT":
					hasTXT = true
					if strs[0] != "NONE" {
						r.txt = append(r.txt, strings.Join(strs, ""))
					}
				case "PTR":
					r.ptr = append(r.ptr, strs[0])
				case "CNAME":
					defer func() { z[name] = z[strings.ToLower(strs[0])] }()
				}
			}
		}
		if len(r.txt) > 0 {
			r.fail = false // it is for the type SPF, which nobody asks for
		} else if !hasTXT {
			r.txt = append(r.txt, spf...)
		}
		z[name] = r
	}
	return z
}
