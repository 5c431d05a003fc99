package upstream

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSourceFile bounds what is read of a file with credentials.
const maxSourceFile = 1 << 20

// PasswordFile is a user whose password, or access token, is all that is in the file at path, but for white space around
// it.
func PasswordFile(user, path string) Source { return passwordFile{user, path} }

type passwordFile struct{ user, path string }

func (p passwordFile) Credentials(context.Context) (Credentials, error) {
	raw, err := readBounded(p.path)
	if err != nil {
		return Credentials{}, fmt.Errorf("password file: %w", err)
	}
	password := strings.TrimSpace(string(raw))
	if password == "" {
		return Credentials{}, fmt.Errorf("password file %s: is empty", p.path)
	}
	return Credentials{Username: p.user, Password: Secret(password)}, nil
}

// readBounded reads a file that is small.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxSourceFile+1))
	if err == nil && len(raw) > maxSourceFile {
		err = fmt.Errorf("%s: has more than %d bytes", path, maxSourceFile)
	}
	return raw, err
}
