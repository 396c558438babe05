-- Types of one's own and a table, for values.sql.

CREATE TYPE mood AS ENUM ('sad', 'so so', 'ha"ppy', 'çà va', 'it''s');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN short AS varchar(5);
CREATE DOMAIN grid AS int[];
CREATE TYPE pair AS (a int, b text);
CREATE TYPE nested AS (p pair, q pair[], r numeric(4,1));
CREATE TYPE float_range AS RANGE (subtype = float8);
CREATE TYPE text_range AS RANGE (subtype = text);
CREATE TABLE one_of (i int, t text, n numeric(6, 2));
INSERT INTO one_of VALUES (1, 'a,b', 1.5), (2, NULL, NULL), (NULL, '', 0);
