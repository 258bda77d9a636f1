package network

// openForward sees to it that packets of a network are forwarded.
func (h *Host) openForward(d Definition) (told []string, err error) { return nil, nil }

func (h *Host) closeForward(d Definition) error { return nil }

func (h *Host) closeAll() error { return h.Table.Remove() }
