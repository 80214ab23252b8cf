-- References, cascades, and the rules that no CHECK can say. Checks of a row run after it is
-- written, so that an INSERT that is ignored or becomes an update does nothing.

-- The places of the characters of a text, as far as texts may be long.
CREATE VIEW characters (n) AS
  WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 255)
  SELECT n FROM c;

-- The elements of users.publish and users.subscribe that are no subjects. A subject is 1 to 255
-- characters, none of them white space or a control; no token is empty; * is a whole token, > the
-- whole last one. What reads JSON here cuts a text at an escaped NUL, so that is looked for in the
-- JSON itself, where two backslashes are one that escapes nothing.
CREATE VIEW illegal_subjects (user_name, list) AS
  SELECT l.user_name, l.list
  FROM (
    SELECT name AS user_name, 'publish' AS list, publish AS json FROM users
    UNION ALL SELECT name, 'subscribe', subscribe FROM users
  ) AS l, json_each(l.json) AS e
  WHERE e.type <> 'text'
    OR instr(replace(l.json, '\\', ''), '\u0000') > 0
    OR length(e.value) NOT BETWEEN 1 AND 255
    OR e.value GLOB '*[' || char(1, 45, 32, 127, 45, 160, 5760, 8192, 45, 8202, 8232, 8233, 8239,
      8287, 12288, 65533, 45, 65535) || ']*'
    OR e.value GLOB '.*' OR e.value GLOB '*.' OR instr(e.value, '..') > 0
    OR instr(replace('.' || replace(e.value, '.', '..') || '.', '.*.', ''), '*') > 0
    OR (instr(e.value, '>') > 0 AND NOT (
      instr(e.value, '>') = length(e.value) AND (e.value = '>' OR substr(e.value, -2) = '.>')))
    OR EXISTS (SELECT 1 FROM characters AS c WHERE c.n <= length(e.value)
      AND char(unicode(substr(e.value, c.n, 1))) IS NOT substr(e.value, c.n, 1));

-- The printable columns whose bytes are no UTF-8.
CREATE VIEW illegal_texts (tbl, key, col) AS
  SELECT t.tbl, t.key, t.col
  FROM (
    SELECT 'tenants' AS tbl, id AS key, 'name' AS col, name AS text FROM tenants
    UNION ALL SELECT 'users', name, 'name', name FROM users
    UNION ALL SELECT 'users', name, 'certificate', certificate FROM users
    UNION ALL SELECT 'tokens', id, 'label', label FROM tokens
  ) AS t, characters AS c
  WHERE c.n <= length(t.text)
    AND char(unicode(substr(t.text, c.n, 1))) IS NOT substr(t.text, c.n, 1);

CREATE TRIGGER tenants_insert_check AFTER INSERT ON tenants BEGIN
  SELECT RAISE(ABORT, 'tenants.name: not UTF-8')
    FROM illegal_texts WHERE tbl = 'tenants' AND key = NEW.id;
END;

CREATE TRIGGER tenants_update_check AFTER UPDATE OF id, name ON tenants BEGIN
  SELECT RAISE(ABORT, 'tenants.id: never changes; delete the tenant and insert another')
    WHERE NEW.id IS NOT OLD.id;
  SELECT RAISE(ABORT, 'tenants.name: not UTF-8')
    FROM illegal_texts WHERE tbl = 'tenants' AND key = NEW.id;
END;

CREATE TRIGGER tenants_delete_cascade AFTER DELETE ON tenants BEGIN
  DELETE FROM users WHERE tenant_id = OLD.id;
  DELETE FROM tenant_accounts WHERE tenant_id = OLD.id;
END;

-- OR REPLACE deletes, without a trigger, whichever rows are in the way: it may replace the row of
-- the same name, and no other.
CREATE TRIGGER users_insert_unique BEFORE INSERT ON users BEGIN
  SELECT RAISE(ABORT, 'users.nkey: another user has it')
    WHERE EXISTS (SELECT 1 FROM users WHERE nkey = NEW.nkey AND name <> NEW.name);
  SELECT RAISE(ABORT, 'users.certificate: another user has it')
    WHERE EXISTS (SELECT 1 FROM users WHERE certificate = NEW.certificate AND name <> NEW.name);
END;

CREATE TRIGGER users_update_unique BEFORE UPDATE OF name, nkey, certificate ON users BEGIN
  SELECT RAISE(ABORT, 'users.name: another user has it')
    WHERE NEW.name IS NOT OLD.name AND EXISTS (SELECT 1 FROM users WHERE name = NEW.name);
  SELECT RAISE(ABORT, 'users.nkey: another user has it')
    WHERE EXISTS (SELECT 1 FROM users WHERE nkey = NEW.nkey AND name <> OLD.name);
  SELECT RAISE(ABORT, 'users.certificate: another user has it')
    WHERE EXISTS (SELECT 1 FROM users WHERE certificate = NEW.certificate AND name <> OLD.name);
END;

-- A new user has no tokens: those that are there belonged to a row that it replaced, perhaps of
-- another tenant.
CREATE TRIGGER users_insert_check AFTER INSERT ON users BEGIN
  SELECT RAISE(ABORT, 'users.tenant_id: no such tenant')
    WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE id = NEW.tenant_id);
  SELECT RAISE(ABORT, 'users.name: not UTF-8')
    FROM illegal_texts WHERE tbl = 'users' AND key = NEW.name AND col = 'name';
  SELECT RAISE(ABORT, 'users.certificate: not UTF-8')
    FROM illegal_texts WHERE tbl = 'users' AND key = NEW.name AND col = 'certificate';
  SELECT RAISE(ABORT, 'users.publish: holds a text that is no subject')
    FROM illegal_subjects WHERE user_name = NEW.name AND list = 'publish';
  SELECT RAISE(ABORT, 'users.subscribe: holds a text that is no subject')
    FROM illegal_subjects WHERE user_name = NEW.name AND list = 'subscribe';
  DELETE FROM tokens WHERE user_name = NEW.name;
END;

CREATE TRIGGER users_update_check
AFTER UPDATE OF name, tenant_id, certificate, publish, subscribe ON users BEGIN
  SELECT RAISE(ABORT, 'users.tenant_id: no such tenant')
    WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE id = NEW.tenant_id);
  SELECT RAISE(ABORT, 'users.name: not UTF-8')
    FROM illegal_texts WHERE tbl = 'users' AND key = NEW.name AND col = 'name';
  SELECT RAISE(ABORT, 'users.certificate: not UTF-8')
    FROM illegal_texts WHERE tbl = 'users' AND key = NEW.name AND col = 'certificate';
  SELECT RAISE(ABORT, 'users.publish: holds a text that is no subject')
    FROM illegal_subjects WHERE user_name = NEW.name AND list = 'publish';
  SELECT RAISE(ABORT, 'users.subscribe: holds a text that is no subject')
    FROM illegal_subjects WHERE user_name = NEW.name AND list = 'subscribe';
  UPDATE tokens SET user_name = NEW.name
    WHERE user_name = OLD.name AND NEW.name IS NOT OLD.name;
END;

CREATE TRIGGER users_delete_cascade AFTER DELETE ON users BEGIN
  DELETE FROM tokens WHERE user_name = OLD.name;
END;

CREATE TRIGGER tokens_insert_unique BEFORE INSERT ON tokens BEGIN
  SELECT RAISE(ABORT, 'tokens.token_hash: another token has it')
    WHERE EXISTS (SELECT 1 FROM tokens WHERE token_hash = NEW.token_hash AND id <> NEW.id);
END;

CREATE TRIGGER tokens_update_unique BEFORE UPDATE OF id, token_hash ON tokens BEGIN
  SELECT RAISE(ABORT, 'tokens.id: another token has it')
    WHERE NEW.id IS NOT OLD.id AND EXISTS (SELECT 1 FROM tokens WHERE id = NEW.id);
  SELECT RAISE(ABORT, 'tokens.token_hash: another token has it')
    WHERE EXISTS (SELECT 1 FROM tokens WHERE token_hash = NEW.token_hash AND id <> OLD.id);
END;

CREATE TRIGGER tokens_insert_check AFTER INSERT ON tokens BEGIN
  SELECT RAISE(ABORT, 'tokens.user_name: no such user')
    WHERE NOT EXISTS (SELECT 1 FROM users WHERE name = NEW.user_name);
  SELECT RAISE(ABORT, 'tokens.label: not UTF-8')
    FROM illegal_texts WHERE tbl = 'tokens' AND key = NEW.id;
END;

CREATE TRIGGER tokens_update_check AFTER UPDATE OF user_name, label ON tokens BEGIN
  SELECT RAISE(ABORT, 'tokens.user_name: no such user')
    WHERE NOT EXISTS (SELECT 1 FROM users WHERE name = NEW.user_name);
  SELECT RAISE(ABORT, 'tokens.label: not UTF-8')
    FROM illegal_texts WHERE tbl = 'tokens' AND key = NEW.id;
END;

CREATE TRIGGER tenant_accounts_insert_check AFTER INSERT ON tenant_accounts BEGIN
  SELECT RAISE(ABORT, 'tenant_accounts.tenant_id: no such tenant')
    WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE id = NEW.tenant_id);
END;

CREATE TRIGGER tenant_accounts_update_check AFTER UPDATE ON tenant_accounts BEGIN
  SELECT RAISE(ABORT, 'tenant_accounts: the account of a tenant never changes')
    WHERE NEW.tenant_id IS NOT OLD.tenant_id OR NEW.account IS NOT OLD.account;
END;
