package config

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// The numbers are structs, so that a TOML integer comes to UnmarshalText too,
// and is not taken for nanoseconds.

// Count is a number of things; negative is none.
type Count struct{ N int }

// UnmarshalText takes a whole number, or "none".
func (c *Count) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if isNone(s) {
		c.N = -1
		return nil
	}
	n, err := strconv.Atoi(strings.ReplaceAll(s, "_", ""))
	if err != nil {
		return badNumber(text, "%q is no whole number; write 100, or \"none\"", s)
	}
	c.N = n
	return nil
}

func (c Count) String() string {
	if c.N < 0 {
		return "none"
	}
	return strconv.Itoa(c.N)
}

// IsZero reports whether the default is meant.
func (c Count) IsZero() bool { return c.N == 0 }

// Size is a number of octets; negative is none.
type Size struct{ N int64 }

// units is ordered so that String finds the largest first.
var units = [...]struct {
	name string
	n    int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}}

// UnmarshalText takes "10MiB", "512KiB", "10MB", a number of octets, or "none".
func (z *Size) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if isNone(s) {
		z.N = -1
		return nil
	}
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	n, err := strconv.ParseInt(strings.ReplaceAll(digits, "_", ""), 10, 64)
	unit, known := unitOf(strings.TrimSpace(s[len(digits):]))
	if err != nil || !known {
		return badNumber(text, "%q is no size; write 10MiB, 512KiB, a number of octets, or \"none\"", s)
	}
	if n > math.MaxInt64/unit {
		return badNumber(text, "%q is too large", s)
	}
	z.N = max(n*unit, -1)
	return nil
}

func unitOf(s string) (int64, bool) {
	if s == "" {
		return 1, true
	}
	for _, u := range units {
		if strings.EqualFold(s, u.name) {
			return u.n, true
		}
	}
	return 0, false
}

func (z Size) String() string {
	if z.N < 0 {
		return "none"
	}
	for _, u := range units {
		if z.N >= u.n && z.N%u.n == 0 && u.n&(u.n-1) == 0 && u.n > 1 {
			return strconv.FormatInt(z.N/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(z.N, 10)
}

// IsZero reports whether the default is meant.
func (z Size) IsZero() bool { return z.N == 0 }

// Duration is a length of time; negative is none.
type Duration struct{ D time.Duration }

// UnmarshalText takes a Go duration such as "90s" or "1h30m", or "none".
func (d *Duration) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if isNone(s) {
		d.D = -1
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return badNumber(text, "%s has no unit; write %ss, %sm or %sh, in quotes", s, s, s, s)
		}
		return badNumber(text, "%q is no duration; write \"90s\", \"5m\", \"168h\" or \"none\"", s)
	}
	d.D = max(v, -1)
	return nil
}

func (d Duration) String() string {
	if d.D < 0 {
		return "none"
	}
	s := d.D.String()
	if d.D != 0 && strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// IsZero reports whether the default is meant.
func (d Duration) IsZero() bool { return d.D == 0 }

// badNumber is an error that the decoder can show in the file: text is part of
// it when the value is not in quotes. Elsewhere it is an error like any other.
func badNumber(text []byte, format string, args ...any) error {
	return unstable.NewParserError(text, format, args...)
}

func isNone(s string) bool { return s == "none" || s == "off" }
