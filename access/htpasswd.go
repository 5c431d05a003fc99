package access

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxFile bounds what is read of a file of users or keys.
	maxFile = 4 << 20
	// maxCost bounds what one login costs: each step doubles it, and this one takes seconds.
	maxCost = 16
)

// readBounded is what a file has.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return raw, err
}

// parseHtpasswd reads lines of user:hash as `htpasswd -B` writes them. All that is wrong is reported at once, by line and
// without the hash.
func parseHtpasswd(name string, raw []byte) (map[string][]byte, error) {
	users := make(map[string][]byte)
	var problems []error
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, hashed, _ := strings.Cut(line, ":")
		err := checkUser(user, hashed)
		if _, twice := users[user]; err == nil && twice {
			err = fmt.Errorf("user %q comes twice", user)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %w", name, n, err))
			continue
		}
		users[user] = []byte(hashed)
	}
	if err := lines.Err(); err != nil {
		problems = append(problems, fmt.Errorf("%s: %w", name, err))
	}
	return users, errors.Join(problems...)
}

func checkUser(user, hashed string) error {
	bad := !strings.HasPrefix(hashed, "$2a$") && !strings.HasPrefix(hashed, "$2b$") && !strings.HasPrefix(hashed, "$2y$")
	cost, err := bcrypt.Cost([]byte(hashed))
	switch {
	case user == "" || len(user) > 255 || hasControl(user):
		return errors.New("want user:hash, one a line")
	case user == WhoAll || user == WhoAnonymous:
		return fmt.Errorf("user %q: the name means somebody else in rules", user)
	case bad:
		return fmt.Errorf("user %q: the password is not hashed by bcrypt: write the line with `htpasswd -B`", user)
	case err != nil:
		return fmt.Errorf("user %q: %w", user, err)
	case cost > maxCost:
		return fmt.Errorf("user %q: bcrypt cost %d would make each login take seconds: want at most %d", user, cost, maxCost)
	}
	return nil
}
