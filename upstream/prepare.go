package upstream

import "context"

// Prepare gets what a question to a repository will need, as far as that is known, so that the question itself need not
// wait for it: the token. It makes no question of its own, and what goes wrong shows when one is asked.
func (c *Client) Prepare(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.FirstByteTimeout)
	defer cancel()
	_, _ = c.authority(path).authorize(ctx, path)
}
