package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// A parser reads one value. Its error says what was wanted.
type parser[T any] func(text string) (T, error)

var (
	sizePattern = regexp.MustCompile(`^([0-9]{1,18})(\.[0-9]{1,6})? ?([a-zA-Z]*)$`)
	// prefixPattern is an element of a name as the distribution specification has it.
	prefixPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$`)
	hostPattern   = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,250}[a-z0-9])?(:[0-9]{1,5})?$`)
)

var units = map[string]int64{
	"": 1, "b": 1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

func parseBytes(text string) (int64, error) {
	match := sizePattern.FindStringSubmatch(text)
	if match != nil {
		if unit, ok := units[strings.ToLower(match[3])]; ok {
			number, err := strconv.ParseFloat(match[1]+match[2], 64)
			if total := number * float64(unit); err == nil && total <= math.MaxInt64/2 {
				if match[2] == "" { // exact, beyond what a float64 holds
					whole, _ := strconv.ParseInt(match[1], 10, 64)
					return whole * unit, nil
				}
				return int64(total), nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no size: want bytes such as 64MiB, 100GB or 1048576", text)
}

func parseSize(text string) (Size, error) {
	if number, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(percent > 0 && percent <= 100) {
			return Size{}, fmt.Errorf("%q is no part of a disk: want more than 0%% and at most 100%%", text)
		}
		return Size{Percent: percent}, nil
	}
	n, err := parseBytes(text)
	if err != nil {
		return Size{}, fmt.Errorf("%q is no size: want a part of the disk such as 20%%, or bytes such as 100GiB", text)
	}
	return Size{Bytes: n}, nil
}

// atLeast limits a number of bytes.
func bytesAtLeast(least int64) parser[int64] {
	return func(text string) (int64, error) {
		n, err := parseBytes(text)
		if err == nil && n < least {
			err = fmt.Errorf("%s is too little: want at least %s", text, formatBytes(least))
		}
		return n, err
	}
}

func durationFrom(least time.Duration) parser[time.Duration] {
	return func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration: want one such as 500ms, 10s, 5m or 1h30m", text)
		}
		if d < least {
			return 0, fmt.Errorf("%s is too short: want at least %v", text, least)
		}
		return d, nil
	}
}

// zeroOrDurationFrom takes 0 for never.
func zeroOrDurationFrom(least time.Duration) parser[time.Duration] {
	return func(text string) (time.Duration, error) {
		if d, err := time.ParseDuration(text); err == nil && d == 0 {
			return 0, nil
		}
		d, err := durationFrom(least)(text)
		if err != nil {
			err = fmt.Errorf("%w, or 0 for never", err)
		}
		return d, err
	}
}

func intFrom(least, most int) parser[int] {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("%q: want a whole number from %d to %d", text, least, most)
		}
		return n, nil
	}
}

func oneOf(words ...string) parser[string] {
	return func(text string) (string, error) {
		if !slices.Contains(words, text) {
			return "", fmt.Errorf("%q: want %s", text, strings.Join(words, " or "))
		}
		return text, nil
	}
}

// parseEgress takes what YAML calls true and false as well.
func parseEgress(text string) (string, error) {
	switch text {
	case "true", "on":
		text = "yes"
	case "false", "off":
		text = "no"
	}
	return oneOf("auto", "yes", "no")(text)
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "yes", "on":
		return true, nil
	case "false", "no", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q: want true or false", text)
}

func parseLevel(text string) (slog.Level, error) {
	var level slog.Level
	if _, err := oneOf("debug", "info", "warn", "error")(text); err != nil {
		return level, err
	}
	return level, level.UnmarshalText([]byte(text))
}

// label reads a name that goes into gossip, which gives it 64 bytes.
func label(required bool) parser[string] {
	return func(text string) (string, error) {
		switch {
		case required && text == "":
			return "", errors.New("is empty")
		case len(text) > 64:
			return "", fmt.Errorf("%.20q… is %d bytes long: want at most 64", text, len(text))
		case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }):
			return "", fmt.Errorf("%q: want printable text", text)
		}
		return text, nil
	}
}

func anyText(text string) (string, error) {
	if strings.ContainsRune(text, 0) {
		return "", errors.New("contains a zero byte")
	}
	return text, nil
}

// listenAddress reads "ip:port"; localhost is 127.0.0.1.
func listenAddress(text string) (string, error) {
	if port, ok := strings.CutPrefix(text, "localhost:"); ok {
		text = "127.0.0.1:" + port
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return "", fmt.Errorf("%q is no address to listen on: want ip:port, such as 127.0.0.1:5000, 0.0.0.0:7946 or [::1]:5000", text)
	}
	return a.String(), nil
}

// hostName takes a name without a port.
func hostName(text string) (string, error) {
	strange := func(r rune) bool { return r <= ' ' || r == ':' || r == '/' || r == 0x7f }
	if text == "" || strings.ContainsFunc(text, strange) {
		return "", fmt.Errorf("%q is no name of a host: it has no port, path or space", text)
	}
	return strings.ToLower(text), nil
}

func optionalListenAddress(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	return listenAddress(text)
}

func advertiseAddress(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
		return "", fmt.Errorf("%q is no address that others can reach: want ip:port, such as 10.0.0.5:7947", text)
	}
	return a.String(), nil
}

// seedAddress reads "host:port", "host", "ip" or "[ip6]:port".
func seedAddress(text string) (string, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return net.JoinHostPort(ip.String(), gossipPort), nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port, err = net.SplitHostPort(text + ":" + gossipPort)
	}
	number, badPort := strconv.ParseUint(port, 10, 16)
	if err != nil || badPort != nil || number == 0 || host == "" || strings.ContainsAny(host, "/\\@%") || strings.ContainsFunc(host, unicode.IsControl) || strings.ContainsFunc(host, unicode.IsSpace) {
		return "", fmt.Errorf("%q is no seed: want host:port, such as 10.0.0.11:7946", text)
	}
	return net.JoinHostPort(host, port), nil
}

func upstreamURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		if strings.Contains(text, "@") {
			text = "this" // it may hold a password
		}
		return "", fmt.Errorf("%q is no upstream: want a URL such as https://registry.example.com, without user or query", text)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

func proxyURL(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) || u.Host == "" {
		return "", errors.New("is no proxy: want a URL such as http://proxy.example.com:3128") // it may hold a password
	}
	return u.String(), nil
}

func upstreamName(text string) (string, error) {
	if !hostPattern.MatchString(text) {
		return "", fmt.Errorf("%q is no name of an upstream: want a host such as ghcr.io or registry.example.com:5000", text)
	}
	if text == "registry-1.docker.io" || text == "index.docker.io" {
		return "", fmt.Errorf("%s is docker.io by another name: say docker.io", text)
	}
	return text, nil
}

// maxPrefix leaves most of a name's 255 bytes to what comes after the prefix.
const maxPrefix = 64

// hostedPrefix takes a first element that clients take for a registry, so that no name at Docker Hub can begin with it.
func hostedPrefix(text string) (string, error) {
	const want = "want lower case letters and digits with a dot among them, such as farm.internal"
	switch {
	case text == "":
		return "", nil
	case len(text) > maxPrefix:
		return "", fmt.Errorf("%.20q… is %d bytes long: want at most %d", text, len(text), maxPrefix)
	case !prefixPattern.MatchString(text) || !strings.Contains(text, "."):
		return "", fmt.Errorf("%q cannot begin a name: %s", text, want)
	}
	if _, err := netip.ParseAddr(text); err == nil {
		return "", fmt.Errorf("%q is an address: %s", text, want)
	}
	return text, nil
}
