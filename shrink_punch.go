package alder

// punch gives the blocks of free pages in the middle of the file back, as far as they lie together. It returns without an error where the system does not do
// that.
func (s *shrinker) punch() error {
	pg := s.pg
	if pg.opts.volatile {
		return nil
	}
	for from := pgid(0); from != maxPgid; s.report() {
		if err := pg.lockIdle(s.ctx); err != nil {
			return err
		}
		err := guarded(pg.st.mapping().data, func() (err error) {
			if from == 0 {
				if err = pg.reclaim(); err == nil {
					from, err = pg.punchFrom()
				}
			}
			if err == nil {
				from, err = pg.punchSome(from, &s.out.Punched)
			}
			return err
		})
		pg.unlock()
		if err != nil {
			return err
		}
	}
	return nil
}
