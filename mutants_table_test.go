package alder

// The rules of docs/invariants.md that a crash, a kill or a fault can bring to light, each taken out of the engine.

var mutants = []mutant{
	// ---- meta pages
	{name: "meta over the newest", rule: "a meta goes into the slot that does not hold the newest durable one",
		edits: []mutantEdit{{"checkpoint.go", "slot := 1 - pg.slot", "slot := pg.slot"}}},
	{name: "meta slot by txid", rule: "the slot does not follow from the txid, which recovery and Close may repeat",
		edits: []mutantEdit{{"checkpoint.go", "slot := 1 - pg.slot", "slot := int(m.txid % 2)"}}},
	{name: "metas ordered by txid", rule: "metas are ordered by their sequence number",
		edits: []mutantEdit{{"meta.go", "second.sequence > first.sequence", "second.txid > first.txid"}}},
	{name: "older meta when the file is short", rule: "there is no way back to an older meta",
		edits: []mutantEdit{{"meta.go", "if second != nil && second.sequence > first.sequence {",
			"if second != nil && (second.sequence > first.sequence && second.fileLength <= size || first.fileLength > size) {"}}, test: "TestOpen_ShortForNewestMeta"},
	{name: "meta not durable", rule: "a meta is written durably",
		edits: []mutantEdit{{"checkpoint.go", `pg.writeDurable(fmt.Sprintf("writing meta page %d", slot), buf, pg.offset(pgid(slot)))`, "pg.st.writeAt(buf, pg.offset(pgid(slot)))"}}},

	// ---- frames of the log
	{name: "frame without checksum", rule: "a frame counts only if its checksum is right",
		edits: []mutantEdit{{"log.go", "return f, xxhash.Sum64(b[offFrameMagic:logHeader+n]) == f.sum", "return f, true"}}},
	{name: "frame of any salt", rule: "a frame counts only with the salt of the log",
		edits: []mutantEdit{{"log.go", "le.Uint64(b[offFrameSalt:]) != salt || ", ""}}, test: "TestLog_FrameIdentity"},
	{name: "frame of any place", rule: "a frame counts only where it was written",
		edits: []mutantEdit{{"log.go", " || le.Uint64(b[offFramePosition:]) != uint64(offset) {", " {"}}, test: "TestLog_FrameIdentity"},
	{name: "frame of any chain", rule: "a frame counts only behind the one it was written behind",
		edits: []mutantEdit{{"log.go", " || f.previous != s.previous {", " {"}}, test: "TestLog_FrameIdentity"},
	{name: "frame of any transaction", rule: "the transactions of a log follow one another",
		edits: []mutantEdit{{"log.go", "if !ok || f.first != s.next || f.previous", "if !ok || f.previous"}}, test: "TestLog_FrameIdentity"},
	{name: "frame of any log", rule: "a frame that was left by an earlier use of its run does not count",
		edits: []mutantEdit{{"log.go", "if !ok || f.first != s.next || f.previous != s.previous {", "if !ok {"}}},
	{name: "frames share blocks", rule: "a block with acknowledged records is not written again",
		edits: []mutantEdit{
			{"log.go", "return (int64(body) + logHeader + logBlock - 1) &^ (logBlock - 1)", "return (int64(body) + logHeader + 63) &^ 63"},
			{"log.go", "p.off < 0 || p.off%logBlock != 0 ||", "p.off < 0 ||"},
			{"group.go", `if err := pg.writeFrame(buf, off); err != nil {`, `begin := off &^ (logBlock - 1)
	blocks := make([]byte, (off+int64(len(buf))-begin+logBlock-1)&^(logBlock-1))
	copy(blocks, pg.st.mapping().data[begin:off])
	copy(blocks[off-begin:], buf)
	if err := pg.writeFrame(blocks, begin); err != nil {`}}},
	{name: "append not durable", quick: true, rule: "a commit returns when its frame is durable",
		edits: []mutantEdit{{"group.go", `pg.writeFrame(buf, off)`, "pg.st.writeAt(buf, off)"}}},
	{name: "damage taken for the end", rule: "a frame of later transactions behind the end of the log is damage",
		edits: []mutantEdit{{"log.go", "return s, r.checkEnd(s, b, m.logSalt)", "return s, nil"}}, test: "TestLog_Damage"},

	// ---- runs of the log
	{name: "run not durable", rule: "a run is durable over its whole length before the log goes on in it",
		edits: []mutantEdit{{"redolog.go", `pg.writeDurable("making a run of the redo log ready", zero[:n], `, "pg.st.writeAt(zero[:n], "}}},
	{name: "run not announced", rule: "the log goes on in another run only behind a frame that follows one that announced it",
		edits: []mutantEdit{{"group.go", "g.jump = l.announced && (", "g.jump = l.next.n > 0 && ("}}, test: "TestLog_Damage"},
	{name: "runs given back early", rule: "the runs before the log's begin are let go of when the new meta is durable",
		edits: []mutantEdit{{"checkpoint.go", "c.begin, c.previous = pg.log.plan, pg.log.previous\n", "c.begin, c.previous = pg.log.plan, pg.log.previous\n\tpg.retireRuns(c.begin.id)\n"}}},
	{name: "log without a meta", rule: "a meta that says where the log is is durable before the first append",
		edits: []mutantEdit{{"redolog.go", "if err := pg.writeMeta(m); err != nil {", "if err := error(nil); err != nil {"}}},
	{name: "log behind a clean meta", rule: "the meta of a log has no clean mark",
		edits: []mutantEdit{{"redolog.go", "m.clean = false\n", "\n"}}},

	// ---- long values
	{name: "value not durable", rule: "a long value is durable before the record that refers to it",
		edits: []mutantEdit{{"tx_run.go", "if !tx.lazy() {", "if tx.lazy() && false {"}, {"tx_run.go", "tx.w.unsynced = true", ""}}},
	{name: "lazy value not durable", rule: "the long values of lazy transactions are synced before their group is appended",
		edits: []mutantEdit{{"group.go", "if g.sync {", "if g.sync && false {"}}},
	{name: "value used again", rule: "the pages of a long value stay until a checkpoint has made the log's reference needless",
		edits: []mutantEdit{{"group.go", "return r.n > 1 && r.birth > pg.feed.needed", "return false && r.birth > pg.feed.needed"}}},
	{name: "replaced value used again", rule: "so do those of a value that its own transaction has replaced",
		edits: []mutantEdit{{"tx.go", "pg.opts.volatile || r.n*pg.pageSize <= pg.opts.longValue {", "pg.opts.volatile || r.n*pg.pageSize >= 0 {"}}},

	// ---- groups
	{name: "page changed in place", rule: "a page that a pinned snapshot has is not changed under its own number",
		edits: []mutantEdit{{"tx.go", "w.floor = pg.pinBelow(db.NoSync)", "w.floor = 0"}}},
	{name: "pinned meanwhile", rule: "a page that was pinned after its transaction began gets a number of its own before that joins", test: "TestCommit_PinnedMeanwhile",
		edits: []mutantEdit{{"group.go", "if j.floor > 0 && j.floor < pg.pinBelow(j.visible) {", "if j.floor > 0 && j.floor < pg.pinBelow(j.visible) && false {"}}},
	{name: "rollback in a group", rule: "a transaction changes its own copies: a rollback leaves the group as it was",
		edits: []mutantEdit{{"tx.go", "own := r.birth == tx.w.id // written out", "if p := tx.pager.unwritten.find(r); p != nil && r.birth != tx.w.id {\n\t\t\treturn p, nil\n\t\t}\n\t\town := r.birth == tx.w.id // written out"}}},
	{name: "seen before durable", quick: true, rule: "in full durability readers see only what is durable",
		edits: []mutantEdit{{"group.go", "if g == nil || j.visible {", "if g == nil || j.visible || true {"}}},
	{name: "groups behind a failed one", rule: "when a group fails, so do all behind it",
		edits: []mutantEdit{{"group.go", "if g.err = pg.failed(); g.err == nil {\n\t\t\tg.err = pg.appendGroup(g)\n\t\t}", "g.err = pg.appendGroup(g)"}}},
	{name: "joins a failed store", rule: "nothing joins a group when the store has failed",
		edits: []mutantEdit{{"group.go", "if err := pg.failed(); err != nil {\n\t\treturn nil, err\n\t}\n\tif j.floor", "if j.floor"}}, test: "TestGroup_AppendFailsInLazyStore"},
	{name: "on after a failed append", rule: "a failed append puts the store into the failed state",
		edits: []mutantEdit{{"group.go", `pg.writeFrame(buf, off)`, "pg.st.writeDurable(buf, off)"}}},
	{name: "on after a failed sync of values", rule: "a failed sync of values puts the store into the failed state",
		edits: []mutantEdit{{"group.go", `pg.sync("sync of values before their commit")`, "pg.st.sync()"}}, test: "TestGroup_ValuesCannotBeSynced"},
	{name: "on after a failed value", rule: "a failed write of a long value puts the store into the failed state",
		edits: []mutantEdit{{"tx_run.go", `pg.writeDurable("writing a value", `, "pg.st.writeDurable("}}, test: "TestCommit_ValueCannotBeWritten"},
	{name: "on after a failed run", rule: "a failed write of a run of the log puts the store into the failed state",
		edits: []mutantEdit{{"redolog.go", `pg.writeDurable("making a run of the redo log ready", `, "pg.st.writeDurable("}}, test: "TestLog_RunCannotBeCleared"},
	{name: "on after a failed checkpoint", rule: "a failed sync of a checkpoint puts the store into the failed state",
		edits: []mutantEdit{{"checkpoint.go", `pg.sync("sync of a checkpoint")`, "pg.st.sync()"}}},
	{name: "on after a failed large commit", rule: "so does that of a transaction that commits by a checkpoint",
		edits: []mutantEdit{{"tx_commit.go", "if err := pg.sync(\"sync of a checkpoint\"); err != nil {\n\t\treturn err\n", "if err := pg.st.sync(); err != nil {\n\t\treturn errors.Join(err, pg.undoMap(m))\n"}}, test: "TestCommit_LargeCannotBeSynced"},
	{name: "on after a failed meta", rule: "a failed write of a meta puts the store into the failed state",
		edits: []mutantEdit{{"checkpoint.go", `pg.writeDurable(fmt.Sprintf("writing meta page %d", slot), buf, `, "pg.st.writeDurable(buf, "}}},
	{name: "told elsewhere", rule: "a sync has failed too if a durable write beside it was told of a page that could not be written",
		edits: []mutantEdit{{"pager.go", "defer pg.telling.Unlock()\n\treturn pg.failed()\n", "defer pg.telling.Unlock()\n\treturn nil\n"}}, test: "TestCheckpoint_PageReportedElsewhere"},
	{name: "meta in a failed store", rule: "a failed store writes no meta, in Close either",
		edits: []mutantEdit{
			{"db.go", "err := pg.failed() // of a failed store", "var err error // of a failed store"},
			{"db.go", "if e := pg.syncLog(); err == nil {\n\t\terr = e\n\t}", "_ = pg.syncLog()"},
			{"pager.go", "pg.waitCheckpoint()\n\tif err := pg.failed(); err != nil {\n\t\treturn err\n\t}\n", "pg.waitCheckpoint()\n"},
			{"checkpoint.go", "pg.waitCheckpoint()\n\tif err := pg.failed(); err != nil {\n\t\treturn err\n\t}\n", "pg.waitCheckpoint()\n"},
			{"checkpoint.go", "if err := pg.failed(); err != nil {\n\t\treturn err\n\t}\n\tif !c.alone {\n\t\tif err := pg.writeBack(c.fileLength); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n\tif err := pg.sync(\"sync of a checkpoint\")", "if err := pg.st.sync()"},
			{"pager.go", "pg.opts.volatile || pg.failed() != nil || !pg.wrote", "pg.opts.volatile || !pg.wrote"}}},

	// ---- checkpoints
	{name: "large commit before the log", rule: "a transaction that commits by a checkpoint waits until all before it are durable",
		edits: []mutantEdit{{"tx_commit.go", "if err := pg.syncLog(); err != nil {\n\t\treturn err\n\t}\n", ""}}},
	{name: "commits before the meta", rule: "nothing later is in the log before the meta of a transaction that commits by a checkpoint",
		edits: []mutantEdit{{"tx_commit.go", "if err := pg.completeMeta(c); err != nil {\n\t\treturn err\n\t}\n",
			"pg.dirty.reset()\n\tpg.unlock()\n\terr = pg.completeMeta(c)\n\tpg.writing <- struct{}{}\n\tif err != nil {\n\t\treturn err\n\t}\n"}}, test: "TestLog_NothingBesideLarge"},
	{name: "checkpoint in an open group", rule: "a checkpoint closes the group of its last transaction",
		edits: []mutantEdit{{"checkpoint.go", "if !c.after.closed {", "if !c.after.closed && false {"}}},
	{name: "checkpoint before its group", rule: "a checkpoint waits until its last group is durable",
		edits: []mutantEdit{{"checkpoint.go", "if err := pg.await(c.after); err != nil {", "if err := error(nil); err != nil {"}}},
	{name: "log begins late", rule: "a log begins behind the last group of its checkpoint's state",
		edits: []mutantEdit{{"checkpoint.go", "next := pg.durable\n\tsalt := pg.log.salt\n", "next := pg.durable\n\tsalt := pg.log.salt\n\tc.begin, c.previous = pg.log.plan, pg.log.previous\n"}}},
	{name: "map of later commits", rule: "the free map describes the checkpoint's state, and no later one",
		edits: []mutantEdit{{"checkpoint.go", "\t\tc.previous = c.after.sum\n\t}\n\tpg.publishMu.Lock()\n", `		c.previous = c.after.sum
	}
	late, err := pg.prepareMap(c.state.id, nil)
	if err == nil {
		err = pg.writeMap(late.update)
	}
	if err != nil {
		return err
	}
	pg.commitMu.Lock()
	err = pg.adoptMap(late.update)
	pg.commitMu.Unlock()
	if err != nil {
		return err
	}
	c.update, c.state.highWater, c.fileLength = late.update, pg.fl.highWater, pg.st.size()
	pg.publishMu.Lock()
`},
			{"checkpoint.go", "err := pg.writeDue(c.state.id)", "err = pg.writeDue(c.state.id)"}}},
	{name: "map changed in place", rule: "the pages of the free map are copied before they are changed",
		edits: []mutantEdit{{"freelist_map.go", "\t\t\t\tid, err := alloc(1)\n", `				if old := u.levels[l][i]; old.id != 0 {
					b.dirty[l][i], u.levels[l][i] = true, pageRef{old.id, b.t}
					continue
				}
				id, err := alloc(1)
`}}},
	{name: "checkpoint without sync", rule: "the pages of a checkpoint are durable before its meta is written",
		edits: []mutantEdit{{"checkpoint.go", `if err := pg.sync("sync of a checkpoint"); err != nil {`, "if err := error(nil); err != nil {"}}},
	{name: "large commit without sync", rule: "so are those of a transaction that commits by a checkpoint",
		edits: []mutantEdit{{"tx_commit.go", `if err := pg.sync("sync of a checkpoint"); err != nil {`, "if err := error(nil); err != nil {"}}},
	{name: "file cut early", rule: "the file is cut when a meta with the smaller length is durable",
		edits: []mutantEdit{{"pager.go", "m := pg.durable\n\tm.sequence++\n\tm.fileLength = end\n", `m := pg.durable
	m.sequence++
	m.fileLength = end
	if end < pg.st.size() {
		if err := pg.st.truncate(end); err != nil {
			return err
		}
	}
`}}},

	// ---- reuse of pages
	{name: "readers not pinned", rule: "the snapshots of readers are pinned",
		edits: []mutantEdit{{"pager_space.go", "few := pg.readers.fewPinned(pins)\n", "few := pins\n"}}},
	{name: "published not pinned", rule: "the published snapshot is pinned: a reader may begin on it at any moment",
		edits: []mutantEdit{{"group.go", "ids = append(ids, s.id)\n\t}\n\tfor _, g := range pg.groups {", "_ = s\n\t}\n\tfor _, g := range pg.groups {"}}, test: "TestReaders_BeginLate"},
	{name: "visible not pinned", rule: "the visible state is pinned",
		edits: []mutantEdit{{"group.go", "return pg.fixedPins(append(ids, pg.visibleState.id))", "return pg.fixedPins(ids)"}}},
	{name: "publishing not pinned", rule: "what is being published is pinned",
		edits: []mutantEdit{{"group.go", "ids = append(ids, pg.publishing, pg.sealed, ", "ids = append(ids, pg.sealed, "}}, test: "TestCommit_BesidePublishing"},
	{name: "groups not pinned", rule: "closed groups are pinned",
		edits: []mutantEdit{{"group.go", "if g.closed {\n\t\t\tids = ", "if g.closed && false {\n\t\t\tids = "}}},
	{name: "durable not pinned", quick: true, rule: "the last checkpoint is pinned",
		edits: []mutantEdit{{"group.go", "ids = append(ids, pg.publishing, pg.sealed, pg.durable.txid)", "ids = append(ids, pg.publishing, pg.sealed)"}}},
	{name: "checkpoint not pinned", rule: "the checkpoint under way is pinned",
		edits: []mutantEdit{{"group.go", "ids = append(ids, pg.publishing, pg.sealed, ", "ids = append(ids, pg.publishing, "}}},

	// ---- copies
	{name: "line not begun", rule: "a store that is not in the file in which its meta was written begins a new line", test: "TestCopies_OtherPrograms",
		edits: []mutantEdit{{"lines.go", "if m.place != pg.place {", "if m.place != pg.place && m.place == copyPlace {"}}},
	{name: "copy not known", rule: "a copy is not where its origin is", test: "TestCopies",
		edits: []mutantEdit{{"copy.go", "lines: lines, place: copyPlace,", "lines: lines, place: tx.pager.place,"}, {"lines.go", "if m.place != pg.place {", "if m.place != pg.place && m.place == copyPlace {"}}},
	{name: "line without end", rule: "a line that is left ends with the last transaction that is part of the store", test: "TestCopies",
		edits: []mutantEdit{{"lines.go", "return l.last, true", "return maxTxid, true"}}},
	{name: "folded diffs forgotten", rule: "the meta knows which transactions diffs brought into the file as one", test: "TestCopies_BaseInsideAppliedDiff",
		edits: []mutantEdit{{"diff_apply.go", "m.folded = before.folded.fold(txid(base.TxID), txid(id.TxID))\n", ""}}},
	{name: "folded diffs not copied", rule: "a copy has births of its origin, and what is known of them", test: "TestCopies_BaseInsideAppliedDiff",
		edits: []mutantEdit{{"copy.go", ", folded: tx.pager.folded,", ","}}},

	// ---- opening
	{name: "no sync at open", rule: "an open begins with a sync: a killed process may have left its writes in the page cache",
		edits: []mutantEdit{{"pager_open.go", "if err := pg.st.sync(); err != nil {", "if err := error(nil); err != nil {"}}},
	{name: "no sync at a clean open", rule: "the clean mark only saves the replay",
		edits: []mutantEdit{{"pager_open.go", "if err := pg.st.sync(); err != nil {", "if now, err := readMetas(pg.st); err != nil || now.meta.clean {\n\t} else if err := pg.st.sync(); err != nil {"}}},
	{name: "meta not confirmed", rule: "the chosen meta is made durable before anything is used again",
		edits: []mutantEdit{{"pager_open.go", "if err := pg.confirmMeta(c); err != nil {", "if err := error(nil); err != nil {"}}},
	{name: "meta confirmed blindly", rule: "the chosen meta is written again only where the medium differs",
		edits: []mutantEdit{{"pager_open.go", "ok && slices.Equal(cached, medium) {", "ok && false && slices.Equal(cached, medium) {"}}},
	{name: "frame only in the page cache", rule: "a frame that the medium does not have does not count", test: "TestOpen_ShowsWhatTheMediumHas",
		edits: []mutantEdit{{"pager_open.go", "if ok && !bytes.Equal(cached, medium) {", "if ok && false && !bytes.Equal(cached, medium) {"}}},
	{name: "meta only in the page cache", rule: "a read-only open chooses the meta from the medium", test: "TestOpen_ShowsWhatTheMediumHas",
		edits: []mutantEdit{{"pager_open.go", "return certainStorage{pg.st}", "return pg.st"}}},
	{name: "runs not claimed", rule: "recovery keeps the runs of the log from being used",
		edits: []mutantEdit{{"pager_open.go", "range scan.runs {", "range scan.runs[:0] {"}, {"pager_open.go", "pg.log.runs = scan.runs //", "pg.log.runs = nil //"}}},
	{name: "values not claimed", rule: "recovery keeps the values that records refer to from being used",
		edits: []mutantEdit{{"pager_open.go", "for i := range scan.frames {", "for i := range scan.frames[:0] {"}}},
	{name: "salt not fresh", rule: "a log in a store that had none has a new salt",
		edits: []mutantEdit{{"redolog.go", "m.logPrevious, m.logSalt = r.id, r.n, 0, 0, le.Uint64(salt[:])\n", "m.logPrevious = r.id, r.n, 0, 0\n\tif m.logSalt == 0 {\n\t\tm.logSalt = le.Uint64(salt[:])\n\t}\n"}}, test: "TestLog_FreshSalt"},
	{name: "txids given out again", rule: "the number of a transaction that may have been lost is not given out again",
		edits: []mutantEdit{{"recover.go", "const recoveryGap = 1 << 24", "const recoveryGap = 1"}}, test: "TestLog_LostNumbers"},

	{name: "no word of a failure", rule: "a store that fails leaves word for the next open", test: "TestOpen_AfterFailure",
		edits: []mutantEdit{{"pager_open.go", "!ok || pg.pageSize == 0 ||", "true || !ok || pg.pageSize == 0 ||"}}},
	{name: "cache kept after a failure", rule: "a creation that follows one that has failed has the page cache dropped", test: "TestCreate_AfterFailure",
		edits: []mutantEdit{{"create.go", "pg.dropCache() // if the last try failed", "// if the last try failed"}}},
	{name: "cache kept after a failed sync", rule: "an open whose sync fails has the page cache dropped", test: "TestOpen_SyncFails",
		edits: []mutantEdit{{"pager_open.go", "pg.dropCache() // the next open", "// the next open"}}},
	{name: "meta chosen before", rule: "the meta is chosen among those that are there when the cache has been dropped", test: "TestOpen_ChosenMetaIsNotDropped",
		edits: []mutantEdit{{"pager_open.go", "pg.dropCache()\n\treturn readMetas(pg.certain())", "pg.dropCache()\n\treturn c, nil"}}},
	{name: "same epoch", rule: "a recovery begins a new epoch", test: "TestTx_WriteDiff_AcrossCrashes",
		edits: []mutantEdit{{"pager_open.go", "pg.epoch++ // transactions", "// transactions"}}},
	{name: "epochs before forgotten", rule: "a recovery passes on how far the epochs before it reach", test: "TestTx_WriteDiff_AcrossCrashes",
		edits: []mutantEdit{{"pager_open.go", "copy(pg.survived[1:], m.survived[:])\n", ""}}},
	{name: "survived too far", rule: "what a recovery has not found has not survived", test: "TestTx_WriteDiff_AcrossCrashes",
		edits: []mutantEdit{{"pager_open.go", "pg.survived[0] = scan.next - 1", "pg.survived[0] = scan.next - 1 + recoveryGap"}}},
	{name: "survived not in the meta", rule: "the meta of each checkpoint says how far the epochs before reach", test: "TestTx_WriteDiff_AcrossCrashes",
		edits: []mutantEdit{{"checkpoint.go", "m.epoch, m.survived, m.lines, m.place, m.folded = pg.epoch, pg.survived, pg.lines, pg.place, pg.folded", "m.epoch, m.lines, m.place, m.folded = pg.epoch, pg.lines, pg.place, pg.folded"}}},

	// ---- holes
	{name: "hole without a mark", rule: "a meta that says that there may be holes is durable before the first is made",
		edits: []mutantEdit{{"pager_holes.go", "if err := pg.noteHoles(); err != nil {\n\t\t\treturn maxPgid, err\n\t\t}\n", "f.holes.possible = true\n"}}},
	{name: "mark forgotten", rule: "the mark stays in all metas as long as there may be holes", test: "TestHoles_NothingWritten",
		edits: []mutantEdit{{"checkpoint.go", "holes: pg.hasHoles(), done: ", "holes: false, done: "}}},
	{name: "mark not read", rule: "a store that is opened with the mark takes all free pages for holes",
		edits: []mutantEdit{{"pager_open.go", "if m.holes {", "if m.holes && false {"}}},
	{name: "hole beside a checkpoint", rule: "no hole is made while a checkpoint is under way, whose meta would not tell of it", test: "TestHoles_BesideCheckpoint",
		edits: []mutantEdit{{"shrink_punch.go", "pg.lockIdle(s.ctx)", "pg.lock(s.ctx)"}}},
	{name: "hole beside commits", rule: "nobody is given a page in which a hole is being made", test: "TestHoles_BesideCommit",
		edits: []mutantEdit{{"pager_holes.go", "ok, err := pg.st.punch(pg.offset(r.id), int64(r.n)<<pg.shift)\n", "pg.unlock()\n\t\tok, err := pg.st.punch(pg.offset(r.id), int64(r.n)<<pg.shift)\n\t\tpg.writing <- struct{}{}\n"}}},
	{name: "hole in a pinned page", rule: "no hole is made in pages that a pinned snapshot has, that of the newest durable meta among them",
		edits: []mutantEdit{{"pager_holes.go", "ok, err := pg.st.punch(", "for _, p := range f.pending.all(1) {\n\t\t\tif _, err := pg.st.punch(pg.offset(p.id), int64(p.n)<<pg.shift); err != nil {\n\t\t\t\treturn maxPgid, err\n\t\t\t}\n\t\t}\n\t\tok, err := pg.st.punch("}}},
	{name: "hole in a logged value", rule: "nor in those of a long value that the log refers to", test: "TestHoles_LoggedValue",
		edits: []mutantEdit{{"pager_holes.go", "ok, err := pg.st.punch(", "for _, p := range f.retainedRuns {\n\t\t\tif _, err := pg.st.punch(pg.offset(p.id), int64(p.n)<<pg.shift); err != nil {\n\t\t\t\treturn maxPgid, err\n\t\t\t}\n\t\t}\n\t\tok, err := pg.st.punch("}}},
	{name: "hole in the log", rule: "nor in the log itself",
		edits: []mutantEdit{{"pager_holes.go", "ok, err := pg.st.punch(", "for _, p := range pg.logRuns {\n\t\t\tif _, err := pg.st.punch(pg.offset(p.id), int64(p.n)<<pg.shift); err != nil {\n\t\t\t\treturn maxPgid, err\n\t\t\t}\n\t\t}\n\t\tok, err := pg.st.punch("}}},
	{name: "hole given out", rule: "a page gets blocks before it is given out", test: "TestHoles_NothingWritten",
		edits: []mutantEdit{{"pager_holes.go", "if len(f.holes.taken) == 0 {", "if len(f.holes.taken) >= 0 {"}}},
	{name: "given out without blocks", rule: "a page for which there are no blocks is not given out", test: "TestHoles_NoBlocks",
		edits: []mutantEdit{{"pager_holes.go", "if err == nil {\n\t\treturn r.id, nil\n\t}\n\tif f.highWater > before {", "if true {\n\t\treturn r.id, nil\n\t}\n\tif f.highWater > before {"}}},
	{name: "taken for whole after a failure", rule: "it is known to be a hole afterwards too", test: "TestHoles_NoBlocks",
		edits: []mutantEdit{{"pager_holes.go", "\t\t\tif e := f.setBare(t); e != nil {\n\t\t\t\treturn 0, errors.Join(err, e)\n\t\t\t}\n", "\t\t\t_ = t\n"}}},
	{name: "holes kept for the map", rule: "the pages that are kept free for the next map have blocks", test: "TestHoles_FullDisk",
		edits: []mutantEdit{
			{"checkpoint.go", "if pg.fl.solidFree() > pg.fl.updatePagesAtMost() {", "if pg.fl.free > pg.fl.updatePagesAtMost() {"},
			{"pager_space.go", "pg.fl.solidFree() < need && !pg.opts.volatile {", "pg.fl.free < need && !pg.opts.volatile {"}}},
	{name: "no other page", rule: "if there are no blocks for a page, one that has some is taken", test: "TestHoles_NoBlocks",
		edits: []mutantEdit{{"pager_holes.go", "return other.id, f.take(run{other.id, r.n})", "return 0, err"}}},
	{name: "holes behind the end forgotten", rule: "holes behind a high water mark that was lowered over them are known", test: "TestHoles_End",
		edits: []mutantEdit{{"freelist_holes.go", "if h.possible {", "if h.possible && false {"}}},
	{name: "holes behind the end given out", rule: "pages behind the high water mark get blocks too before they are given out", test: "TestHoles_EndByRun",
		edits: []mutantEdit{{"freelist_holes.go", "h.possible && lo < hi {", "h.possible && lo < hi && false {"}}},
	{name: "holes before a run of the log", rule: "so do those that the log in a recovery leaves behind it", test: "TestHoles_EndInRecovery",
		edits: []mutantEdit{{"freelist.go", "if err := f.raiseFree(raised); err != nil {\n\t\t\treturn err\n\t\t}\n", ""}}},
	{name: "holes where it could not grow", rule: "and those that could not be had because the file could not grow", test: "TestHoles_EndCannotGrow",
		edits: []mutantEdit{{"pager_space.go", "pg.fl.holes.back(before)\n", ""}}},

	// ---- readers that stay, and what waits for them
	{name: "settled not pinned", rule: "the snapshots of readers that have left the table are pinned", test: "TestReaders_ManySnapshots",
		edits: []mutantEdit{{"pager_space.go", "&pinSet{few: few, settled: &pg.readers.pins, gone: ", "&pinSet{few: few, gone: "}}},
	{name: "settled for ever", rule: "the writer is told when the last reader of such a snapshot ends", test: "TestReaders_ManySnapshots",
		edits: []mutantEdit{{"pager_space.go", "pg.pins.gone = pg.readers.pins.takeGone(pg.pins.gone[:0])", "pg.pins.gone = pg.pins.gone[:0]"}}},
	{name: "older pin passed over", rule: "what an older pinned snapshot has too stays when a newer one is let go of", test: "TestFreelist_Pins",
		edits: []mutantEdit{{"freelist_pending.go", "if r.birth <= older {", "if r.birth < older {"}}},
	{name: "hangs on an older pin", rule: "a page that is given up stays as long as the newest pinned snapshot", test: "TestFreelist_Pins",
		edits: []mutantEdit{{"freelist_pending.go", "if r.birth > newest {", "if r.birth >= newest {"}}},
	{name: "retired runs lost", rule: "runs of the log that cannot be given back are given back later", test: "TestLog_RunsCannotBeFreed",
		edits: []mutantEdit{{"pager_space.go", "if !freed { // also", "if !freed && false { // also"}}},

	// ---- the pace of checkpoints
	{name: "written back too late", rule: "the pages of a checkpoint beside commits are written back, a part at a time, before its sync", test: "TestCheckpoint_Paced",
		edits: []mutantEdit{{"checkpoint.go", "\tif !c.alone {\n\t\tif err := pg.writeBack(c.fileLength); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n\tif err := pg.sync(\"sync of a checkpoint\"); err != nil {\n\t\treturn err\n\t}\n",
			"\tif err := pg.sync(\"sync of a checkpoint\"); err != nil {\n\t\treturn err\n\t}\n\tif !c.alone {\n\t\tif err := pg.writeBack(c.fileLength); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n"}}},
	{name: "written back, not synced", rule: "what was written back is not durable before the sync", test: "TestCheckpoint_Paced",
		edits: []mutantEdit{{"checkpoint.go", "\tif err := pg.sync(\"sync of a checkpoint\"); err != nil {", "\tif _, ok := pg.st.(pacer); ok && !c.alone {\n\t} else if err := pg.sync(\"sync of a checkpoint\"); err != nil {"}}},
}
