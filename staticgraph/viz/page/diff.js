'use strict';
{
  sgpage.difference = { tabs: () => [] };
}
